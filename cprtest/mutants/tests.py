# SPDX-License-Identifier: GPL-2.0-or-later
"""What the functional tests declare to need, read by importing them. Needs the venv."""

import importlib.util
import re
from pathlib import Path

from cprtest import needs, paths
from cprtest.errors import CprError
from cprtest.job import suites
from cprtest.mutants.catalogue import Test, lane_of


def all_of_them() -> list[Test]:
    """The tests of the suite full, with their needs; not those that choose their QEMUs themselves."""
    smoke = set(suites.members("smoke"))
    tests = [_test(name, name in smoke) for name in suites.members("full")]
    return [test for test in tests if not any(need.startswith("build:") for need in test.needs)]


def _test(name: str, smoke: bool) -> Test:
    file, _, method = name.partition(":")
    owner, _, function = method.partition(".")
    tests = getattr(_module(paths.CHECKOUT / file), owner)
    declared = tuple(needs.declared(tests, function))
    words = re.split(r"[^a-z0-9]+", " ".join([*declared, name]).lower())
    corpus = re.findall(r"\bC-\d+\b", getattr(tests, function).__doc__ or "")
    return Test(name, declared, frozenset([*words, *corpus]), smoke, lane_of(declared))


_modules: dict[Path, object] = {}


def _module(path: Path) -> object:
    if path not in _modules:
        spec = importlib.util.spec_from_file_location(f"functional_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise CprError(f"{path} cannot be imported.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _modules[path] = module
    return _modules[path]
