# SPDX-License-Identifier: GPL-2.0-or-later
"""One clock for everything: CLOCK_MONOTONIC of the machine that the QEMUs run on.

QEMU stamps its QMP events and its trace lines with the time of day. Both clocks are
read in one process to learn the offset between them, and how well it is known.
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Offset:
    """Time of day minus monotonic time, in ns, and the bound of its error in ns."""

    value: int
    err: int


def read_offset(samples: int = 20) -> Offset:
    """The offset now: the tightest of `samples` readings of monotonic, wall, monotonic."""
    best = Offset(0, 1 << 62)
    for _ in range(samples):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        half = (after - before + 1) // 2
        if half < best.err:
            best = Offset(wall - (before + after) // 2, half)
    return best


class WallClock:
    """Turns times of day that were stamped while this object lived into monotonic time."""

    def __init__(self) -> None:
        self._first = read_offset()

    def at(self, wall_ns: int) -> int:
        """The time of day `wall_ns` on the monotonic clock, in ns."""
        return wall_ns - self._first.value

    def error(self) -> int:
        """ns: the bound of the error of times until now. Covers a clock that was slewed or stepped meanwhile.

        Reads the clocks some dozen times: ask once for many times.
        """
        now = read_offset()
        return self._first.err + now.err + abs(now.value - self._first.value)

    def monotonic(self, wall_ns: int, resolution_ns: int = 1000) -> tuple[int, int]:
        """(time, error bound) in ns of one time of day that was stamped with `resolution_ns`."""
        return self.at(wall_ns), self.error() + resolution_ns
