# SPDX-License-Identifier: GPL-2.0-or-later
"""Our own C programs: compiled once for a source, again for a changed one; gcc's words when it fails."""

import subprocess
from pathlib import Path

import pytest

from cprtest.errors import CprError
from cprtest.provision import programs


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_compiled_once_for_each_content(tmp_path: Path) -> None:
    source = tmp_path / "answer.c"
    source.write_text("int main(void) { return 42; }\n")
    first = programs.compiled(source)
    assert subprocess.run([first], check=False).returncode == 42
    made = first.stat().st_mtime_ns
    assert programs.compiled(source).stat().st_mtime_ns == made
    source.write_text("int main(void) { return 43; }\n")
    assert subprocess.run([programs.compiled(source)], check=False).returncode == 43


def test_failure_is_told_in_the_words_of_gcc(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(CprError, match="nothing"):
        programs.compiled(source)
    assert not list((tmp_path / "cache" / "qemu-cpr" / "programs").iterdir())
