# SPDX-License-Identifier: GPL-2.0-or-later
"""Patterns over all free memory of the guest: a stale, zeroed or foreign page is found, with its address.

The guest checks and renews every page for ever (assets/guest/memory-pattern.c has the form of a page). The
host can judge as well, from the file that is the guest's memory: also when the guest can no longer say
anything.
"""

import contextlib
import os
import time
from array import array
from collections.abc import Iterator

from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.machine.memory import located, memory_file
from cprtest.workloads.history import PAUSE, Problem, note
from cprtest.workloads.workload import LAST_WORDS, Workload

_PAGE = 4096
_ABOVE = 4 << 30
"""Where memory goes on that has no room below the hole for PCI."""
_WORDS = _PAGE // 8
_KEEP_MIB = 40
"""MiB of free memory that are left to the rest of the guest."""
_TOLD = 20
"""Pages that are told one by one; there is no use in thousands."""


class MemoryPattern(Workload):
    """The patterns, one process on each vCPU. `pause_us`: microseconds of rest after each sweep."""

    name = "memory"
    program = "memory-pattern"

    def __init__(self, guest: Guest, pause_us: int = 0, keep_mib: int = _KEEP_MIB) -> None:
        super().__init__(guest, guest.spec.vcpus)
        # Held open: it outlives QEMU, and it is the same file on every side, or something is wrong.
        self._file = os.open(memory_file(guest.machine.pid), os.O_RDONLY)
        self._hole = _hole(guest)
        self.start(f"memory-pattern {guest.spec.vcpus} {keep_mib} {pause_us}")
        # To get all that memory takes many times as long beside other loads.
        self.wait_progress(1)

    @classmethod
    def beside_others(cls, guest: Guest, keep_mib: int = 60) -> "MemoryPattern":
        """One that rests between sweeps, and leaves memory to loads that are started after it."""
        return cls(guest, pause_us=20_000, keep_mib=keep_mib)

    @property
    def size(self) -> int:
        """Bytes of guest memory that are under watch."""
        return sum(int(op.result[3]) for op in self.operations("map")) * _PAGE

    @property
    def highest(self) -> int:
        """The guest-physical address at which the last page that is under watch ends."""
        return max(int(op.result[2], 16) + int(op.result[3]) * _PAGE for op in self.operations("map"))

    def wait_progress(self, count: int = 2, what: str | None = "sweep", seconds: float = 60) -> None:
        """Wait for whole sweeps: after two, all that was there before has been looked at."""
        super().wait_progress(count, what, seconds)

    def judge(self) -> list[Problem]:
        """The pages that the guest found wrong."""
        return [
            _problem(
                int(address, 16), int(wanted, 16), int(seen, 16), f"{op.place}, {words} words", op.transfer
            )
            for op in self.operations("bad")
            for address, wanted, seen, words in [op.result[1:]]
        ]

    def post_mortem(self) -> list[Problem]:
        """Every page as the memory file has it. A guest that runs is stopped for that.

        One that may run and cannot be stopped is not judged.
        """
        machine = self.guest.machine
        try:
            runs = not machine.gone() and machine.qmp.command("query-status", seconds=LAST_WORDS)["running"]
            stopped = time.monotonic_ns()
            if runs:
                machine.qmp.command("stop")
        except CprError:
            return list(self._judge_file()) if machine.gone() else []
        found = list(self._judge_file())
        if runs:
            with contextlib.suppress(CprError):  # what was found counts, whatever becomes of the guest
                machine.qmp.command("cont")
            note(machine.history, PAUSE, (stopped, time.monotonic_ns()))  # other loads stood still meanwhile
        return found

    def check_artefacts(self) -> None:
        """Judge all pages from outside. Raises AssertionError."""
        self.fail_with(self.post_mortem())

    def far_from_the_sweep(self, count: int) -> list[int]:
        """Addresses of `count` pages that memory.0 is not at just now. The guest must be stopped."""
        runs = [op.result[2:] for op in self.operations("map") if op.who == f"{self.name}.0"]
        pages = [int(address, 16) + n * _PAGE for address, length in runs for n in range(int(length))]
        words = [os.pread(self._file, 8, self._offset(address)) for address in pages]
        at = next((n for n in range(1, len(pages)) if words[n][4:] != words[0][4:]), 0)
        return [pages[(at + len(pages) * (n + 1) // (count + 1)) % len(pages)] for n in range(count)]

    def _judge_file(self) -> Iterator[Problem]:
        told = 0
        newest = {op.who: int(op.result[1]) for op in self.operations("sweep")}
        for run in self.operations("map"):
            first, address, count = int(run.result[1]), int(run.result[2], 16), int(run.result[3])
            held = os.pread(self._file, count * _PAGE, self._offset(address))
            for n in range(count):
                page = held[n * _PAGE : (n + 1) * _PAGE]
                wrong = _compare(page, first + n, newest.get(run.who, 1))
                if wrong is None:
                    continue
                wanted, seen = wrong
                told += 1
                if told <= _TOLD:
                    place = f"in the memory file, of {run.who}"
                    yield _problem(address + n * _PAGE, wanted, seen, place, self._transfer())
        if told > _TOLD:
            yield Problem(f"{told} pages are wrong in all")

    def _offset(self, address: int) -> int:
        """Where a guest-physical address is in the memory file."""
        return address - self._hole if address >= _ABOVE else address

    def _transfer(self) -> int:
        return max((op.transfer for op in self.operations()), default=0) or self.history.transfers

    def stop(self) -> None:
        super().stop()
        with contextlib.suppress(OSError):
            os.close(self._file)


def _compare(page: bytes, number: int, reported: int) -> tuple[int, int] | None:
    """What the page should hold and what it does hold; None when all is well.

    After sweep `reported` was reported the guest may have renewed the page once or twice more, and may be
    at it.
    """
    allowed = [(reported + more) << 32 | number for more in range(3)]
    words = array("Q", page)
    if sum(words.count(word) for word in allowed) == _WORDS:
        return None
    seen = next((word for word in words if word not in allowed), words[0])
    return allowed[0], seen


def _problem(address: int, wanted: int, seen: int, where: str, transfer: int) -> Problem:
    # Until the descriptor is the target's, nobody but the guest touches its memory.
    phases = ("acquire",) if transfer else ()
    return Problem(f"memory at {address:#x} {difference(wanted, seen)} ({where})", phases)


def difference(wanted: int, seen: int) -> str:
    """What a page is that holds word `seen` (generation << 32 | number of the page) instead of `wanted`."""
    generation, number = wanted >> 32, wanted & 0xFFFFFFFF
    if seen == 0:
        return "is zero"
    if seen & 0xFFFFFFFF == number and seen >> 32 < generation:
        return f"is stale: generation {seen >> 32} instead of {generation}"
    if 0 < seen >> 32 <= generation + 2:
        return f"is foreign: it holds page {seen & 0xFFFFFFFF} instead of {number}"
    return f"is damaged: {seen:#x} instead of {wanted:#x}"


def _hole(guest: Guest) -> int:
    """Bytes of the hole for PCI below 4 GiB, 0 if no memory is above it. QEMU tells where memory goes on."""
    if guest.spec.memory_mib < 2 << 10:
        return 0
    try:
        with located(guest.machine, _ABOVE) as (_, offset):
            return _ABOVE - offset
    except CprError:  # all of it is below
        return 0
