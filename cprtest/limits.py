# SPDX-License-Identifier: GPL-2.0-or-later
"""Time limits: written once for bare-metal KVM, stretched by how slow this lane is.

A limit says how long something may take before a test gives up waiting. It is never
an assertion about speed: benchmarks do that.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import TypeVar

from cprtest.errors import CprError
from cprtest.paths import lane

_T = TypeVar("_T")

# Seconds that `_work` took on the machine the limits are written for (3 GHz x86-64).
_REFERENCE = 0.03
# Patience of a lab on TCG is 20 and more, of one on KVM 2.
_EMULATED = 10


KILL_LIMIT = 20.0
"""Seconds that killed processes get to end; a QEMU with gigabytes of guest memory needs a few."""


class TimeLimit(CprError):
    """Something awaited did not come: the text says what, and what was there instead."""


def _work() -> None:
    total = 0
    for n in range(400_000):
        total += n * n


@functools.cache
def patience() -> float:
    """How many times slower than bare-metal KVM this lane is (at least 1).

    Measured once per process tree: CPRTEST_PATIENCE carries the figure to children.
    """
    known = os.environ.get("CPRTEST_PATIENCE")
    if known:
        return max(1.0, float(known))
    best = min(_timed(_work) for _ in range(3))
    # Guests without KVM are slower than the host they run on.
    value = max(1.0, best / _REFERENCE) * 2
    os.environ["CPRTEST_PATIENCE"] = f"{value:.1f}"
    return value


def emulated() -> bool:
    """Whether the lane's CPUs, those with KVM included, are emulated: a lab on a host without KVM."""
    return lane() == "lab" and patience() > _EMULATED


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def stretched(seconds: float) -> float:
    """The limit `seconds` of a fast machine, in seconds of this one."""
    return seconds * patience()


_needed = 0.0


def met(seconds: float, start: float) -> None:
    """Note that a wait with a limit of `seconds`, begun at `start` (time.monotonic), got what it awaited."""
    global _needed  # noqa: PLW0603
    _needed = max(_needed, (time.monotonic() - start) / seconds)


def needed() -> float:
    """The patience that this process really needed: with less a wait would have been in vain."""
    return _needed


def wait_until(
    what: str,
    probe: Callable[[], _T],
    seconds: float,
    instead: Callable[[], str] = lambda: "nothing happened",
    interval: float = 0.005,
    *,
    vain: Callable[[], str | None] = lambda: None,
) -> _T:
    """Poll `probe` until it returns something true, and return that.

    `seconds` is stretched. `vain`, asked once a second, says why it cannot come any more, or None.
    Raises TimeLimit: "waited 10 s for WHAT; instead: ...".
    """
    limit = stretched(seconds)
    start = time.monotonic()
    deadline = start + limit
    asked = start
    while True:
        value = probe()
        if value:
            met(seconds, start)
            return value
        now = time.monotonic()
        if now > deadline:
            raise TimeLimit(f"waited {limit:.0f} s for {what}; instead: {instead()}")
        if now > asked + 1:
            asked = now
            if why := vain():
                raise TimeLimit(f"waited in vain for {what}: {why}; until then: {instead()}")
        time.sleep(interval)
        interval = min(interval * 1.5, 0.25)
