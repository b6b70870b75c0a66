# SPDX-License-Identifier: GPL-2.0-or-later
"""One direction of a flow of numbered packets: which were lost, came twice, or were overtaken, and where.

Operations `sent FIRST COUNT` and `heard FIRST COUNT` (assets/guest/udp-packets.c) are runs of consecutive
numbers, in the order in which they happened.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cprtest.workloads.history import Operation, Problem


@dataclass(frozen=True)
class Way:
    """What one end sent, and what the other heard.

    pauses: from when to when the guest was stopped, ns of the sender's clock: what was sent then may be lost.
    spoilt: numbers of packets that came damaged. complete: both ends have said that nothing more will come.
    """

    name: str
    sent: Sequence[Operation]
    heard: Sequence[Operation]
    pauses: Sequence[tuple[int, int]] = ()
    spoilt: frozenset[int] = frozenset()
    complete: bool = True
    _arrived: dict[int, Operation] = field(init=False)

    def __post_init__(self) -> None:
        arrived = {number: op for op in self.heard for number in _numbers(op)}
        object.__setattr__(self, "_arrived", arrived)

    @property
    def excused(self) -> int:
        """How many packets were lost of those that were sent in a pause."""
        return sum(len(numbers) for op, numbers in self._lost() if self._in_a_pause(op))

    def problems(self) -> list[Problem]:
        """What a path without a transfer would not do to packets."""
        return [*self._lost_outside(), *self._doubled(), *self._overtaken()]

    def _lost_outside(self) -> Iterator[Problem]:
        for op, numbers in self._lost():
            if not self._in_a_pause(op):
                span = _span(numbers)
                yield Problem(f"{self.name}: {span} lost, sent while the guest was running ({op.place})")

    def _lost(self) -> list[tuple[Operation, list[int]]]:
        """Each run in which packets are missing, with their numbers."""
        last = max(self._arrived, default=-1)
        runs = [
            (op, [n for n in _numbers(op) if n not in self._arrived and n not in self.spoilt])
            for op in self.sent
        ]
        return [(op, missing) for op, numbers in runs if (missing := self._settled(numbers, last))]

    def _settled(self, numbers: list[int], last: int) -> list[int]:
        """Those of `numbers` that can no longer be under way."""
        return [number for number in numbers if self.complete or number < last]

    def _in_a_pause(self, op: Operation) -> bool:
        return any(op.start <= end and start <= op.end for start, end in self.pauses)

    def _doubled(self) -> Iterator[Problem]:
        seen: set[int] = set()
        for op in self.heard:
            again = [number for number in _numbers(op) if number in seen]
            seen.update(_numbers(op))
            if again:
                yield Problem(f"{self.name}: {_span(again)} not for the first time ({op.place})")

    def _overtaken(self) -> Iterator[Problem]:
        """Packets that came later than any did on this path before the first transfer."""
        usual = max((behind for op, _, behind in self._late() if not op.transfer), default=0)
        for (_, op), late in groupby(self._late(), key=lambda one: (one[0].number, one[0])):
            _, number, behind = max(late, key=lambda one: one[2])
            if behind > usual:
                yield Problem(
                    f"{self.name}: packet {number} came after packet {number + behind} ({op.place})"
                )

    def _late(self) -> Iterator[tuple[Operation, int, int]]:
        """Packets that came for the first time after a higher one: (run, number, how far behind)."""
        highest = -1
        seen: set[int] = set()
        for op in self.heard:
            for number in _numbers(op):
                if number < highest and number not in seen:
                    yield op, number, highest - number
                highest = max(highest, number)
                seen.add(number)


def _numbers(op: Operation) -> range:
    first, count = int(op.result[1]), int(op.result[2])
    return range(first, first + count)


def _span(numbers: Sequence[int]) -> str:
    """The numbers in a message: how many they are, and between which."""
    if len(numbers) == 1:
        return f"packet {numbers[0]} was"
    return f"{len(numbers)} packets of {numbers[0]} to {numbers[-1]} were"
