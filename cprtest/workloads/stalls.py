# SPDX-License-Identifier: GPL-2.0-or-later
"""Stalls of a stream: silences for which no pause of the guest, and no packet that it lost, is the reason.

A packet that was lost in a pause is sent again when the retransmission timer fires, and that is set to twice
the time after each try (RFC 6298): tries are made R, 3R, 7R after the first, where R is 200 ms at least
(TCP_RTO_MIN). So the first that meets a guest which runs again comes at most twice the pause and R after its
beginning. Nothing here says that a machine is fast: what is slow or busy has `_PATIENCE` seconds more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cprtest.limits import stretched
from cprtest.workloads.history import Operation, Problem

_RETRANSMISSION = 0.2
"""Seconds"""
_PATIENCE = 2
"""Seconds, stretched"""


@dataclass(frozen=True)
class Silence:
    """Nothing came for `length` ns, between `start` and `end` (the host's CLOCK_MONOTONIC, ns).

    about: where in the stream that was, or what the kernel says of the connection after it.
    """

    start: int
    end: int
    length: int
    about: str


def longest(pauses: Sequence[tuple[int, int]] = ()) -> float:
    """Seconds for which a stream without rests may be silent that these pauses of the guest befell."""
    paused = max(end for _, end in pauses) - min(start for start, _ in pauses) if pauses else 0
    return 2 * paused / 1e9 + _RETRANSMISSION + stretched(_PATIENCE)


def in_guest(reports: Sequence[Operation]) -> Iterator[Silence]:
    """How long the guest had to wait for the next chunk, by the reports of one connection.

    By the guest's clock, but not longer than it can have been by the host's: a clock may have jumped.
    """
    for before, chunk in pairwise(op for op in reports if op.what == "chunk"):
        start, end = before.unseen, chunk.seen
        place = f"between bytes {before.result[1]} and {chunk.result[1]} of the stream to the guest"
        yield Silence(start, end, min(chunk.end - chunk.start, end - start), place)


def judge(
    who: str, silence: Silence, rest: float, pauses: Sequence[tuple[int, int]], phases: tuple[str, ...]
) -> Problem | None:
    """What is wrong with a silence of `who`, whose sender rests for so many seconds.

    `pauses`: all of the guest's. `phases`: to blame if the guest was paused meanwhile.
    """
    met = [(start, end) for start, end in pauses if start <= silence.end and silence.start <= end]
    allowed = longest(met) + rest
    if silence.length <= allowed * 1e9:
        return None
    paused = sum(end - start for start, end in met) / 1e9
    when = f"{silence.start / 1e9:.3f} to {silence.end / 1e9:.3f} s of the host's clock"
    return Problem(
        f"{who}: stalled for {silence.length / 1e9:.1f} s {silence.about}, at {when}, when pauses of "
        f"{paused:.3f} s explain {allowed:.1f} s at most",
        phases if met else (),
    )
