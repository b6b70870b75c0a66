# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a test bed: whatever fails of it, the rest is done, and what was left is told."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cprtest.bed import TestBed
from cprtest.errors import CprError
from cprtest.host import processes, runs
from cprtest.host.runs import Run
from cprtest.provision.installed import Qemu

QEMU = Qemu(Path("/nonexistent"))


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBed]:
    monkeypatch.setattr(runs, "runs_dir", lambda: tmp_path)
    monkeypatch.delenv(processes.MARK, raising=False)
    monkeypatch.setattr(Run, "_current", None)
    made = TestBed(QEMU, QEMU, tmp_path, tmp_path)
    yield made
    made.close()


def test_a_process_that_is_left_is_killed_and_told(bed: TestBed) -> None:
    left = subprocess.Popen(["sleep", "600"])
    with pytest.raises(CprError, match=r"left something behind\. Killed process sleep"):
        bed.close()
    assert left.wait(5) == -9


def test_nothing_left_is_nothing_told(bed: TestBed) -> None:
    scratch = Run.start().scratch()
    bed.close()
    assert not scratch.exists()


def test_one_that_cannot_be_ended_keeps_nothing_else(bed: TestBed) -> None:
    class Stuck:
        def kill(self) -> None:
            raise CprError("survives")

    ended: list[str] = []

    class Other:
        def kill(self) -> None:
            ended.append("other")

    bed.machines += cast(Any, [Other(), Stuck(), Other()])
    bed.observe(cast(Any, Closing(ended)))
    with pytest.raises(CprError, match="survives"):
        bed.close()
    assert ended == ["other", "other", "observer"]
    bed.machines.clear()


class Closing:
    def __init__(self, ended: list[str]) -> None:
        self._ended = ended

    def close(self) -> None:
        self._ended.append("observer")
