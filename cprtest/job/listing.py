# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/run SUITE --list`: the tests of a suite, what each promises and needs. Runs none of them."""

import functools
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType

from cprtest import needs, paths
from cprtest.defects import known_defects
from cprtest.job.suites import SUITES, tags_of
from cprtest.report.evidence import promise_of


@dataclass(frozen=True)
class Entry:
    """A test. corpus: the failure modes it is about; defects: the known defects that it is to meet."""

    name: str
    promise: str
    needs: tuple[str, ...]
    corpus: tuple[str, ...]
    defects: tuple[str, ...]


def entries(names: Sequence[str]) -> list[Entry]:
    """An entry for each test of that name. Imports the tests."""
    return [_entry(name) for name in names]


def as_json(suite: str, found: Sequence[Entry]) -> str:
    """One object; keys are only ever added."""
    data = {
        "suite": suite,
        "tags": tags_of(suite),
        "suites": list(SUITES),
        "tests": [asdict(e) for e in found],
    }
    return json.dumps(data, indent=1)


def as_text(found: Sequence[Entry]) -> str:
    """For people."""
    lines = []
    for entry in found:
        lines += [entry.name, f"    {entry.promise}"]
        if entry.needs:
            lines.append(f"    needs {', '.join(entry.needs)}")
    return "\n".join(lines)


def _entry(name: str) -> Entry:
    file, _, test = name.partition(";")[0].partition(":")
    owner, _, method = test.partition(".")
    declared = needs.declared(getattr(_module(file), owner), method)
    promise = promise_of(name)
    # Ids in the promise: C-nn of the corpus, D-nnn of known defects.
    corpus = re.findall(r"\bC-\d+\b", promise)
    defects = {defect.id for defect in known_defects() if test in defect.tests}
    return Entry(name, promise, tuple(declared), tuple(dict.fromkeys(corpus)), tuple(sorted(defects)))


@functools.cache
def _module(file: str) -> ModuleType:
    path = paths.CHECKOUT / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
