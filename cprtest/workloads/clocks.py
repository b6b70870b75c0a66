# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's clocks: never backwards on any vCPU, never further than the host's, and their timers fire.

assets/guest/clock-watch.c reads them. What a clock may do at most is not a guess: between the moment before
the workload was started and the moment at which a report was read, no more time passed in the guest than on
the host. Less did only while the guest was paused, and by as much as a report takes to arrive.
"""

import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from cprtest.guest.guest import Guest
from cprtest.limits import stretched
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.workload import Workload

PERIOD_MS = 20
_RATE = 0.02
"""How much faster than the host's a guest's clock may run: it measures the TSC, badly under TCG."""
_SLACK = 50_000_000
"""ns"""
_LATE = 1e9
"""ns, stretched, that a report may take to arrive, and a timer to fire."""
_NEAR = 3
"""Ticks on each side of a step: reading two clocks one after the other can take long, but not each time."""


class Clocks(Workload):
    """Monotonic and wall clock and the TSC, read on every vCPU."""

    name = "clock"
    program = "clock-watch"

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest, guest.spec.vcpus)
        # Not later than the guest's time: it was asked afterwards. Its uptime is its monotonic clock.
        self._began = time.monotonic_ns()
        self._uptime = int(float(guest.run("cat /proc/uptime").split()[0]) * 1e9)
        self._asked = time.monotonic_ns()
        self.start(f"clock-watch {guest.spec.vcpus} {PERIOD_MS}")

    def judge(self) -> list[Problem]:
        """Steps back, jumps ahead, timers that fire late, and a wall clock that leaves the monotonic one."""
        found = [
            Problem(
                f"{op.place}: the {op.result[1]} clock stepped back by {int(op.result[2]) / 1e6:.3f} ms",
                ("stream",) if op.transfer else (),
            )
            for op in self.operations("back")
        ]
        pause = max((end - start for start, end in self.history.pauses), default=0)
        for who in self._names():
            ticks = [_Tick(op) for op in self.operations("tick") if op.who == who]
            found += [*self._ahead(ticks), *self._behind(ticks)]
            found += [*_timers(ticks), *_steps(ticks), *_tsc(ticks, pause)]
        return found

    def _ahead(self, ticks: list["_Tick"]) -> Iterator[Problem]:
        """The first tick by which more time had passed in the guest than on the host."""
        for tick in ticks:
            passed = tick.monotonic - self._uptime
            host = tick.operation.seen - self._began
            if passed > host * (1 + _RATE) + _SLACK:
                yield Problem(
                    f"{tick.operation.place}: the monotonic clock is ahead: {passed / 1e9:.3f} s passed in "
                    f"the guest, {host / 1e9:.3f} s at most on the host",
                    ("resume",) if tick.operation.transfer else (),
                )
                return

    def _behind(self, ticks: list["_Tick"]) -> Iterator[Problem]:
        """The first tick by which much less time had passed in the guest than on the host."""
        for tick in ticks:
            passed = tick.monotonic - self._uptime
            host = tick.operation.unseen - self._asked - tick.operation.paused
            if passed < host * (1 - _RATE) - stretched(_LATE):
                yield Problem(
                    f"{tick.operation.place}: the monotonic clock is behind: {passed / 1e9:.3f} s passed in "
                    f"the guest, {host / 1e9:.3f} s at least on the host, transfers not counted",
                    ("stream",) if tick.operation.transfer else (),
                )
                return


class _Tick:
    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.monotonic, self.realtime, self.raw, self.tsc, self.late = (int(w) for w in operation.result[1:])

    @property
    def wall(self) -> int:
        """ns that the wall clock, read after the monotonic one, is ahead of it."""
        return self.realtime - self.monotonic

    @property
    def slew(self) -> int:
        """The same of the raw clock, which no adjustment touches (clock_gettime(2))."""
        return self.raw - self.monotonic


def _timers(ticks: list[_Tick]) -> Iterator[Problem]:
    """The timer that fired latest, if it was late. The guest's clock stands still while QEMU says so.

    Not while QEMU itself is held by a signal: with such a fault a timer may well be late.
    """
    worst = max(ticks, key=lambda tick: tick.late, default=None)
    if worst and worst.late > stretched(_LATE):
        yield Problem(
            f"{worst.operation.place}: a timer fired {worst.late / 1e9:.3f} s late",
            ("stream",) if worst.operation.transfer else (),
        )


def _steps(ticks: list[_Tick]) -> Iterator[Problem]:
    """The first step of the wall clock, and the first departure of the raw clock, from the monotonic one.

    Nobody sets or adjusts the guest's clock.
    """
    for n in range(_NEAR, len(ticks) - _NEAR + 1):
        step = _least(ticks[n:], "wall") - _least(ticks[n - _NEAR :], "wall")
        if abs(step) > _SLACK:
            yield _departed(ticks[n].operation, f"the wall clock stepped by {step / 1e9:.3f} s")
            break
    for n in range(_NEAR, len(ticks) - _NEAR + 1):
        passed = ticks[n].monotonic - ticks[0].monotonic
        drift = _least(ticks[n:], "slew") - _least(ticks, "slew")
        if abs(drift) > _SLACK + _RATE / 2 * passed:
            yield _departed(ticks[n].operation, f"the raw clock went away by {drift / 1e9:.3f} s")
            break


def _tsc(ticks: list[_Tick], pause: int) -> Iterator[Problem]:
    """The first jump of the TSC against the monotonic clock, whose rate it had most of the time.

    pause: ns that it may go away by, the longest. With KVM the TSC rests in a hand-over, from the stop on,
    and kvmclock only from where it is saved, for the time until then to be counted (kvmclock_pre_save,
    hw/i386/kvm/clock.c of QEMU 10.2). Where the guest is stopped and continued, kvmclock rests and the TSC
    goes on.
    """
    pairs = [(a, b) for a, b in pairwise(ticks) if b.monotonic > a.monotonic]
    if not pairs:
        return
    rate = median((b.tsc - a.tsc) / (b.monotonic - a.monotonic) for a, b in pairs)
    ahead = [tick.tsc / rate - tick.monotonic for tick in ticks]
    for n in range(_NEAR, len(ticks) - _NEAR + 1):
        least = min(range(n, n + _NEAR), key=ahead.__getitem__)
        step = ahead[least] - min(ahead[n - _NEAR : n])
        slack = _SLACK + _RATE * (ticks[n].monotonic - ticks[n - _NEAR].monotonic)
        if abs(step) > pause + slack:
            yield _departed(ticks[least].operation, f"the TSC stepped by {step / 1e9:.3f} s")
            break


def _least(ticks: list[_Tick], what: str) -> int:
    return min(int(getattr(tick, what)) for tick in ticks[:_NEAR])


def _departed(operation: Operation, what: str) -> Problem:
    phases = ("resume",) if operation.transfer else ()
    return Problem(f"{operation.place}: {what} against the monotonic one", phases)
