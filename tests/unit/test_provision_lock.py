# SPDX-License-Identifier: GPL-2.0-or-later
"""assets/requirements.txt: the lock file that .venv is made from."""

import re
import tomllib

from cprtest.paths import CHECKOUT
from cprtest.provision.venv import LOCK

TEXT = LOCK.read_text()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_that_pyproject_asks_for_is_locked() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(name for group in project["optional-dependencies"].values() for name in group),
    ]
    locked = {canonical(name): version for name, version in re.findall(r"^(\S+)==(\S+)", TEXT, re.M)}
    for requirement in asked:
        name, _, exact = requirement.partition("==")
        name = canonical(re.split(r"[<>=]", name)[0])
        assert name in locked, f"{requirement}: renew the lock file, pyproject.toml says how"
        assert exact in ("", locked[name])


def test_every_locked_version_has_hashes() -> None:
    entries = re.split(r"^(?=\S)", TEXT, flags=re.M)
    assert [entry.split()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


def test_the_lock_file_names_no_index() -> None:
    assert "://" not in TEXT
    assert "index-url" not in TEXT
