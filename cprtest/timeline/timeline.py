# SPDX-License-Identifier: GPL-2.0-or-later
"""The timeline of one transfer: events in their phases, and assertions about their order."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cprtest.timeline import order
from cprtest.timeline.downtime import downtimes
from cprtest.timeline.event import Event, write_events
from cprtest.timeline.order import tag
from cprtest.timeline.ownership import ownership
from cprtest.timeline.phases import Span, find_phases, place

__all__ = ["Timeline", "tag"]


@dataclass
class Timeline:
    """What happened in one transfer. Times in ns on the common clock."""

    events: list[Event]
    phases: dict[str, Span]
    downtime: dict[str, int | None]
    qemu: dict[str, str] = field(default_factory=dict)
    ownership: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    directory: Path | None = None

    @classmethod
    def build(cls, events: Iterable[Event], qemu: dict[str, str], downtime_qemu: int | None) -> "Timeline":
        """Merge the events of all observers. `downtime_qemu`: QEMU's own figure in ns, if it gave one."""
        ordered = sorted(events, key=lambda e: e.t)
        phases = find_phases(ordered)
        downtime = downtimes(ordered, downtime_qemu)
        placed = [place(e, phases) for e in ordered]
        timeline = cls(placed, phases, downtime, qemu, ownership(ordered))
        wrong = (
            timeline._disorder(),
            order.two_owners(timeline.ownership, ordered),
            order.foreign_packets(ordered, phases),
        )
        timeline.violations += filter(None, wrong)
        return timeline

    @property
    def mode(self) -> str:
        """cpr-transfer or cpr-exec."""
        return order.mode(self.events)

    def order(self) -> list[str]:
        """The phases in the order in which they began."""
        return order.began(self.phases)

    def last(self) -> str | None:
        """The phase that a transfer had reached when it ended or failed."""
        reached = [name for name in self.order() if name not in ("rollback", "complete")]
        return reached[-1] if reached else None

    @property
    def pause(self) -> tuple[int, int] | None:
        """From when to when the guest was stopped, ns; None if it was not, or has not gone on."""
        resumed = [self.phases[name].end for name in ("resume", "rollback") if name in self.phases]
        return (self.phases["stop"].start, max(resumed)) if "stop" in self.phases and resumed else None

    def add(self, event: Event) -> None:
        """Put one more event in its place in time."""
        self.events = sorted([*self.events, place(event, self.phases)], key=lambda e: e.t)

    def between(self, start: str, end: str) -> int | None:
        """ns from the start of phase `start` to the end of phase `end`; None if one did not happen."""
        if start not in self.phases or end not in self.phases:
            return None
        return self.phases[end].end - self.phases[start].start

    def events_between(self, start: str, end: str | None = None, **wanted: str) -> list[Event]:
        """Events from the beginning of phase `start` to that of phase `end` (or to the last event).

        `wanted`: fields of Event and their values, as actor="source", name="VHOST_SET_OWNER".
        """
        since = self.phases[start].start
        until = self.phases[end].start if end else self.events[-1].t + 1
        return [e for e in self._like(wanted) if since <= e.t < until]

    def assert_order(self, *wanted: str) -> None:
        """The phases began in this order, each of them did; by default the right order of this mode.

        Only a device that changes its owner is released, so by default `release` may be missing, and `setup`
        where neither QEMU's trace nor a vhost device tells of it.
        Raises AssertionError quoting the events that are out of place.
        """
        untold = {"release"} if order.tells_of_setup(self.events) else {"release", "setup"}
        right = (p for p in order.RIGHT[self.mode] if p not in untold or p in self.phases)
        self._require(order.violated(wanted or tuple(right), self.phases, self.events))

    def assert_between(self, start: str, end: str, **wanted: str) -> None:
        """There are events with the fields `wanted`, and all are between the beginnings of two phases."""
        self.assert_order(start, end)
        found, inside = self._like(wanted), self.events_between(start, end, **wanted)
        what = " ".join(wanted.values())
        if not found:
            self._require(f"between: no evidence of {what} {tag(start)}")
        if outside := [e for e in found if e not in inside]:
            right = f"{what} should come after the beginning of {start} and before that of {end}"
            edges = [order.first_event(name, self.phases, self.events) for name in (start, end)]
            quoted = (
                f"  {e.phase or 'no phase'}: {e}" for e in sorted([*outside, *edges], key=lambda e: e.t)
            )
            blamed = tag(*dict.fromkeys(e.phase or start for e in outside))
            self._require("\n".join([f"between: {right} {blamed}", *quoted]))

    def assert_never_overlaps(self, *devices: str) -> None:
        """At no instant did both sides own a queue of one of `devices` (all, if none is named).

        Raises AssertionError quoting the two owners' times; also when there is no evidence of an owner.
        """
        known = {row["device"] for row in self.ownership}
        missing = [device for device in devices or ("any device",) if device not in known]
        if missing and (devices or not known):
            self._require(f"ownership: no evidence of who owned {', '.join(missing)} {tag('acquire')}")
        rows = [row for row in self.ownership if not devices or row["device"] in devices]
        self._require(order.two_owners(rows, self.events))

    def _like(self, wanted: dict[str, str]) -> list[Event]:
        return [e for e in self.events if all(getattr(e, key) == value for key, value in wanted.items())]

    def _disorder(self) -> str:
        """What is wrong with the order of the phases that were seen."""
        return order.violated(
            [p for p in order.RIGHT[self.mode] if p in self.phases], self.phases, self.events
        )

    def _require(self, violation: str) -> None:
        """Fail with `violation` unless it is empty, and put it into the files and the drawing."""
        if not violation:
            return
        if violation not in self.violations:
            self.violations.append(violation)
            if self.directory:
                self.write(self.directory)
        raise AssertionError(violation)

    def write(self, directory: Path) -> None:
        """Write events.jsonl, timeline.json and timeline.svg; again when an assertion fails."""
        from cprtest.timeline.draw import draw  # noqa: PLC0415  (tests that never write need no drawing)

        self.directory = directory
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
