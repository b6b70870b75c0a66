# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories: reading them while they grow, and what is wrong with one."""

from pathlib import Path

from cprtest.workloads.cpu import after
from cprtest.workloads.history import History, note


def test_lines_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "history.log"
    history = History(path)
    assert history.operations("disk") == []
    path.write_text("disk.0 0 10 20 ack 0\ndisk.1 0 10")
    assert [(op.who, op.what, op.transfer) for op in history.operations("disk")] == [("disk.0", "ack", 0)]
    with path.open("a") as file:
        file.write(" 30 ack 0\n")
    note(path, "transfer 1 begins")
    with path.open("a") as file:
        file.write("disk.0 1 30 40 ack 1\nclock.0 0 1 2 tick 3\n")
    assert [(op.who, op.end, op.transfer) for op in history.operations("disk")] == [
        ("disk.0", 20, 0),
        ("disk.1", 30, 0),
        ("disk.0", 40, 1),
    ]
    assert history.problems("disk") == []


def test_reports_that_come_twice_or_never_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "history.log"
    path.write_text("a.0 0 1 2 x\na.0 1 1 2 x\na.0 1 1 2 x\na.0 4 1 2 x\na.0 \0\0\n")
    found = [str(problem) for problem in History(path).problems("a")]
    assert len(found) == 3
    assert "operation 1 was reported twice" in found[0] and found[0].endswith("[phase stop]")
    assert "reports 2 to 3 never reached the host" in found[1]
    assert "damaged" in found[2]


def test_generator_of_cpu_burn() -> None:
    state = 3
    for _ in range(1000):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    assert after(3, 1000) == state
