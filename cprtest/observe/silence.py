# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs of life of a guest, and the silence among them that is the pause of a hand-over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.machine.process import Machine


@dataclass(frozen=True)
class Sign:
    """A sign of life: it happened after `after` and before `before`, ns on the common clock."""

    after: int
    before: int
    data: dict[str, Any] = field(default_factory=dict)

    def event(self, actor: str, observer: str, name: str) -> Event:
        """The event: in the middle between the two times, give or take half of what lies between them."""
        err = (self.before - self.after + 1) // 2
        return Event(self.after + err, actor, observer, name, err=err, data=self.data)


@dataclass(frozen=True)
class Silence:
    """Nothing between two signs of life. `first`: the one that ended it, or when listening ended, in ns."""

    last: Sign
    first: Sign | int

    @property
    def end(self) -> int:
        """ns: until when it lasted for certain."""
        return self.first if isinstance(self.first, int) else self.first.after

    @property
    def length(self) -> int:
        """ns for which there was nothing for certain."""
        return self.end - self.last.before

    def within(self, start: int, end: int) -> int:
        """ns of it between `start` and `end`; less than 0 if it was elsewhere."""
        return min(self.end, end) - max(self.last.before, start)

    def events(self, actor: str, observer: str, kind: str) -> list[Event]:
        """Its edges: KIND_last and, if it ended, KIND_first."""
        edges = [self.last.event(actor, observer, f"{kind}_last")]
        if isinstance(self.first, Sign):
            edges.append(self.first.event(actor, observer, f"{kind}_first"))
        return edges


def told_pause(sides: Sequence[Machine], since: int) -> tuple[int, int] | None:
    """From when to when QEMU says that the guest was stopped after `since`; None if it was not. ns."""
    told = sorted((e for m in sides for e in m.qmp.events if e.t >= since), key=lambda e: e.t)
    stop = next((e.t for e in told if e.name == "STOP"), None)
    if stop is None:
        return None
    return stop, next((e.t for e in told if e.name == "RESUME" and e.t > stop), time.monotonic_ns())


def pause_among(silences: Sequence[Silence], told: tuple[int, int] | None) -> Silence | None:
    """The silence that has most in common with the pause that QEMU told of; the longest, if it told of none.

    The longest need not be the pause: a guest that waits for a CPU of the host is as silent as a stopped one.
    """
    if told is None:
        return max(silences, key=lambda s: s.length, default=None)
    return max(silences, key=lambda s: s.within(*told), default=None)
