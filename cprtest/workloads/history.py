# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories: what a workload in the guest says it has done, one operation a line, in a file of the host.

The guest's programs write to a virtio-serial port (assets/guest/history.h has the form of a line), and
every QEMU of a test appends what comes there to one and the same file. So what was written before a
hand-over is there, in order, whatever became of the QEMU. The bed adds lines of its own: `host 0 TIME TIME
transfer 1 begins`, and `ends`, where TIME is the host's CLOCK_MONOTONIC in ns; and `host 0 START END pause`,
between which the guest was stopped.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from cprtest.timeline.timeline import tag

_LINE = re.compile(r"([\w.]+) (\d+) (\d+) (\d+) (.+)")
_HOST = "host"
PAUSE = "pause"


@dataclass(frozen=True)
class Operation:
    """One operation that has ended, as the guest reported it.

    who: the reporter, NAME.INDEX. number: its operations count from 0. start, end: ns of the guest's
    CLOCK_MONOTONIC. transfer: how many transfers had begun when the report reached the host. seen: ns of the
    host's CLOCK_MONOTONIC at which it was read, so at or after it was done. unseen: ns of the last look
    before that. paused: ns that all transfers, and pauses besides, so far have taken on
    the host, at most.
    """

    who: str
    number: int
    start: int
    end: int
    result: tuple[str, ...]
    transfer: int
    seen: int
    unseen: int
    paused: int

    @property
    def what(self) -> str:
        """The first word of the result: what was done."""
        return self.result[0]

    @property
    def place(self) -> str:
        """Where it stands, for a message: disk.0's operation 17, after transfer 1."""
        after = f", after transfer {self.transfer}" if self.transfer else ""
        return f"{self.who}'s operation {self.number}{after}"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be: what and where, and the phases that the evidence points to."""

    text: str
    phases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} {tag(*self.phases)}" if self.phases else self.text


class History:
    """Reads the history file as it grows. `read` may be called at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._transfer = 0
        self._looked = 0
        self._paused = 0
        self._began: int | None = None
        self._pauses: list[tuple[int, int]] = []
        self._operations: list[Operation] = []
        self._problems: list[tuple[str, Problem]] = []
        self._expected: dict[str, int] = {}

    @property
    def transfers(self) -> int:
        """How many transfers have begun so far."""
        self._read()
        return self._transfer

    @property
    def pauses(self) -> list[tuple[int, int]]:
        """When the guest was stopped for a transfer: ns of the host's CLOCK_MONOTONIC, from and to."""
        self._read()
        return self._pauses

    def operations(self, name: str) -> list[Operation]:
        """What the reporters NAME.0, NAME.1 ... have reported so far, in the order in which it arrived."""
        self._read()
        return [operation for operation in self._operations if operation.who.rpartition(".")[0] == name]

    def problems(self, name: str) -> list[Problem]:
        """What is wrong with the reports of `name` themselves: damaged, lost, or there twice."""
        self._read()
        return [problem for who, problem in self._problems if who.rpartition(".")[0] in (name, "")]

    def _read(self) -> None:
        if not self.path.exists():
            return
        looking = time.monotonic_ns()
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        seen = time.monotonic_ns()
        for line in whole.decode(errors="replace").splitlines():
            self._add(line, seen)
        self._looked = looking

    def _add(self, line: str, seen: int) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            self._problems.append(("", Problem(f"a report reached the host damaged: {line!r}")))
            return
        who, number, start, end, rest = match.groups()
        if who == _HOST:
            self._count(rest, int(start), int(end))
            return
        result = tuple(rest.split())
        paused = self._paused + (seen - self._began if self._began is not None else 0)
        operation = Operation(
            who, int(number), int(start), int(end), result, self._transfer, seen, self._looked, paused
        )
        self._operations.append(operation)
        if wrong := self._out_of_turn(operation):
            self._problems.append((who, wrong))

    def _out_of_turn(self, operation: Operation) -> Problem | None:
        """A reporter uses each number once; a second copy of the guest repeats some."""
        wanted = self._expected.get(operation.who, 0)
        self._expected[operation.who] = max(wanted, operation.number + 1)
        if operation.number < wanted:
            text = f"{operation.place} was reported twice: the guest has run on both sides, or fell back"
            return Problem(text, ("stop",))
        if operation.number > wanted:
            lost = f"{wanted} to {operation.number - 1}"
            return Problem(f"{operation.who}: reports {lost} never reached the host")
        return None

    def _count(self, text: str, t: int, end: int) -> None:
        if text.endswith("begins"):
            self._transfer += 1
            self._began = t
        elif text == PAUSE:
            self._pauses.append((t, end))
            if self._began is None:  # in a transfer all of it counts anyway
                self._paused += end - t
        elif self._began is not None:
            self._paused += t - self._began
            self._began = None


def note(path: Path, text: str, span: tuple[int, int] | None = None) -> None:
    """Add a line of the host's to the history at `path`: of this moment, or of a `span` (ns, monotonic)."""
    start, end = span or (time.monotonic_ns(),) * 2
    with path.open("a") as file:
        file.write(f"{_HOST} 0 {start} {end} {text}\n")
