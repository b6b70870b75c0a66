# SPDX-License-Identifier: GPL-2.0-or-later
"""One clock for everything: CLOCK_MONOTONIC of the machine that the QEMUs run on.

QEMU stamps its QMP events and its trace lines with the time of day. Both clocks are
read in one process to learn the offset between them, and how well it is known.
"""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Offset:
    """Time of day minus monotonic time, in ns, and the bound of its error in ns.

    since: ns, monotonic: when it began to be so.
    """

    value: int
    err: int
    since: int = 0


_steps: list[Offset] = []
"""The offset after each step of the time of day that this process made, in order."""
_stepping = threading.Lock()


def read_offset(samples: int = 20) -> Offset:
    """The offset now: the tightest of `samples` readings of monotonic, wall, monotonic."""
    best = Offset(0, 1 << 62)
    since = time.monotonic_ns()
    for _ in range(samples):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        half = (after - before + 1) // 2
        if half < best.err:
            best = Offset(wall - (before + after) // 2, half, since)
    return best


def step(seconds: float) -> None:
    """Set the time of day ahead by `seconds`, or back: for a host that nobody else needs.

    Each WallClock knows of it: what was stamped before keeps its time. Raises OSError.
    """
    with _stepping:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + round(seconds * 1e9))
        _steps.append(read_offset())


class WallClock:
    """Turns times of day that were stamped while this object lived into monotonic time.

    Across steps (`step`) a stamp's time is the one at which its offset held: there is one, as long as the
    object has not lived longer than the clock was stepped by.
    """

    def __init__(self) -> None:
        self._first = read_offset()

    def at(self, wall_ns: int) -> int:
        """The time of day `wall_ns` on the monotonic clock, in ns."""
        with _stepping:
            offsets = self._offsets()
            if len(offsets) == 1:
                return wall_ns - self._first.value
            ends = [*(offset.since for offset in offsets[1:]), time.monotonic_ns()]
        # A step is not done at one instant: the time in or nearest to the span in which its offset held.
        times = [
            (wall_ns - offset.value, offset.since, end) for offset, end in zip(offsets, ends, strict=True)
        ]
        return min(times, key=lambda span: max(span[1] - span[0], span[0] - span[2], 0))[0]

    def error(self) -> int:
        """ns: the bound of the error of times until now. Covers a clock that others slewed or stepped.

        Reads the clocks some dozen times: ask once for many times.
        """
        with _stepping:
            last, now = self._offsets()[-1], read_offset()
        return last.err + now.err + abs(now.value - last.value)

    def monotonic(self, wall_ns: int, resolution_ns: int = 1000) -> tuple[int, int]:
        """(time, error bound) in ns of one time of day that was stamped with `resolution_ns`."""
        return self.at(wall_ns), self.error() + resolution_ns

    def _offsets(self) -> list[Offset]:
        """Those that held since this object was made."""
        return [self._first, *(offset for offset in _steps if offset.since > self._first.since)]
