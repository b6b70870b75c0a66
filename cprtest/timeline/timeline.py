# SPDX-License-Identifier: GPL-2.0-or-later
"""The timeline of one transfer: events in their phases, and assertions about their order."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cprtest.timeline.event import Event, write_events
from cprtest.timeline.ownership import ownership
from cprtest.timeline.phases import PHASES, Span, find_phases, place


def tag(*phases: str) -> str:
    """How a failure's message names the phases that broke: [phase stop, setup]. Reports look for it."""
    return f"[phase {', '.join(phases)}]"


@dataclass
class Timeline:
    """What happened in one transfer. Times in ns on the common clock."""

    events: list[Event]
    phases: dict[str, Span]
    downtime: dict[str, int | None]
    qemu: dict[str, str] = field(default_factory=dict)
    ownership: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @classmethod
    def build(cls, events: Iterable[Event], qemu: dict[str, str], downtime_qemu: int | None) -> "Timeline":
        """Merge the events of all observers. `downtime_qemu`: QEMU's own figure in ns, if it gave one."""
        ordered = sorted(events, key=lambda e: e.t)
        phases = find_phases(ordered)
        downtime = {"vcpu": None, "network": None, "disk": None, "qemu": downtime_qemu}
        return cls([place(e, phases) for e in ordered], phases, downtime, qemu, ownership(ordered))

    def between(self, start: str, end: str) -> int | None:
        """ns from the start of phase `start` to the end of phase `end`; None if one did not happen."""
        if start not in self.phases or end not in self.phases:
            return None
        return self.phases[end].end - self.phases[start].start

    def assert_order(self, *wanted: str) -> None:
        """The phases began in this order, each of them did. Raises AssertionError quoting what was seen."""
        unknown = [name for name in wanted if name not in PHASES]
        if unknown:
            raise ValueError(f"not a phase: {', '.join(unknown)}; phases are {', '.join(PHASES)}")
        missing = [name for name in wanted if name not in self.phases]
        if missing:
            raise AssertionError(
                f"order: no evidence of {', '.join(missing)}; seen: {self.order()} {tag(*missing)}"
            )
        starts = [self.phases[name].start for name in wanted]
        if starts != sorted(starts):
            quoted = "\n".join(f"  {name}: {self._quote(name)}" for name in self.order())
            seen = " < ".join(name for name in self.order() if name in wanted)
            late = tag(*self.out_of_place(wanted))
            raise AssertionError(f"order: expected {' < '.join(wanted)}, saw {seen} {late}\n{quoted}")

    def out_of_place(self, wanted: Sequence[str]) -> list[str]:
        """The fewest phases without which the others began in the order `wanted`; all of them did begin.

        Where there is a choice it is those that should have come first: they are late.
        """
        for count in range(len(wanted), 0, -1):
            for kept in reversed(list(itertools.combinations(wanted, count))):
                starts = [self.phases[name].start for name in kept]
                if starts == sorted(starts):
                    return [name for name in wanted if name not in kept]
        return []

    def last(self) -> str | None:
        """The phase that a transfer had reached when it ended or failed."""
        reached = [name for name in self.order() if name not in ("rollback", "complete")]
        return reached[-1] if reached else None

    def order(self) -> list[str]:
        """The phases in the order in which they began."""
        return sorted(self.phases, key=lambda name: self.phases[name].start)

    def _quote(self, phase: str) -> str:
        start = self.phases[phase].start
        return str(next(e for e in self.events if e.t == start))

    def write(self, directory: Path) -> None:
        """Write events.jsonl, timeline.json and timeline.svg."""
        from cprtest.timeline.draw import draw  # noqa: PLC0415  (tests that never write need no drawing)

        write_events(directory / "events.jsonl", self.events)
        data = {
            "qemu": self.qemu,
            "phases": {name: asdict(span) for name, span in self.phases.items()},
            "ownership": self.ownership,
            "downtime": self.downtime,
            "violations": self.violations,
            "events": "events.jsonl",
        }
        (directory / "timeline.json").write_text(json.dumps(data, indent=1) + "\n")
        (directory / "timeline.svg").write_text(draw(self))
