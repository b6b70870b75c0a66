# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of the probe's packets: the network's pause, and which were lost, doubled or overtaken."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cprtest.observe.silence import Sign, Silence, pause_among
from cprtest.timeline.event import Event


@dataclass(frozen=True)
class Packet:
    """A packet at the tap. t: ns, monotonic. answer: the guest's own number, 0 in a packet to the guest."""

    t: int
    number: int
    answer: int


def events(
    records: Sequence[Packet], told: tuple[int, int] | None, err: int, end: int, about: dict[str, Any]
) -> list[Event]:
    """The events of one transfer, from what passed the tap.

    `packet_last` and `packet_first`: the guest's packets around the pause that QEMU `told` of. `packets`: how
    many of each kind; `ok` is false if one was lost for which the pause is no excuse, or one came twice. err:
    ns, bound of the clock error. end: when nobody listened any more. about: more data for `packets`.
    """
    sent = [p for p in records if not p.answer]
    answers = [p for p in records if p.answer]
    index = {"index": about["index"]}
    signs = [
        Sign(p.t - err, p.t + err, index | {"number": p.number, "answer": p.answer})
        for p in sorted(answers, key=lambda p: p.t)
    ]
    silences = [Silence(*pair) for pair in pairwise(signs)]
    silences += [Silence(signs[-1], end)] if signs else []
    pause = pause_among(silences, told)
    numbers = [p.number for p in answers]
    own = sorted(p.answer for p in answers)
    lost = sorted({p.number for p in sent} - set(numbers))
    outside = sorted(set(lost) - _excused(sent, answers, set(lost), pause))
    doubled = sorted(number for number, times in Counter(numbers).items() if times > 1)
    data = about | {
        "answered": len(set(numbers)),
        "lost": len(lost),
        "lost_from_guest": own[-1] - own[0] + 1 - len(set(own)) if own else 0,
        "lost_outside_pause": outside[:20],
        "doubled": doubled[:20],
        "overtaken_to_guest": overtaken(p.number for p in sorted(answers, key=lambda p: p.answer)),
        "overtaken_from_guest": overtaken(p.answer for p in answers),
    }
    found = pause.events("net", "probe", "packet") if pause else []
    return [*found, Event(end, "net", "probe", "packets", ok=not outside and not doubled, data=data)]


def _excused(
    sent: Sequence[Packet], answers: Sequence[Packet], lost: set[int], pause: Silence | None
) -> set[int]:
    """Numbers of the packets that the pause may have cost: those that were sent in it.

    If one of them was lost, the tap's queue was full, and stays so until the guest has worked it off: what
    was sent before that is excused as well. In an emulated lab that takes a while.
    """
    if pause is None:
        return set()
    unanswered = [p for p in sent if p.number > pause.last.data["number"]]
    waiting = {p.number for p in unanswered if p.t < pause.end}
    if not waiting & lost:
        return waiting
    worked_off = max((p.t for p in answers if p.number in waiting), default=pause.end)
    return {p.number for p in unanswered if p.t < max(pause.end, worked_off)}


def overtaken(numbers: Iterable[int]) -> int:
    """How many came after a higher one."""
    highest = late = 0
    for number in numbers:
        late += number < highest
        highest = max(highest, number)
    return late
