# SPDX-License-Identifier: GPL-2.0-or-later
"""The right order of a hand-over, and the sentences about one that was not in it."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from cprtest.timeline.event import Event
from cprtest.timeline.ownership import foreign_io, overlaps
from cprtest.timeline.phases import PHASES, Span

RIGHT = {
    "cpr-transfer": ("stop", "setup", "release", "handover", "acquire", "stream", "resume"),
    # One process: it writes the device state to a file, then becomes the target (execve), which reads it.
    # The descriptors change hands in that moment, when everything else is over.
    "cpr-exec": ("stop", "stream", "complete", "handover", "acquire", "resume"),
}
"""In which order the phases begin, by migration mode; in cpr-transfer `complete` and `resume` have none."""

_QUOTED = 4


def tag(*phases: str) -> str:
    """How a failure's message names the phases that broke: [phase stop, setup]. Reports look for it."""
    return f"[phase {', '.join(phases)}]"


def mode(events: Sequence[Event]) -> str:
    """The migration mode of the transfer that `events` tell of: a key of RIGHT."""
    return "cpr-exec" if any(event.name == "cpr_exec" for event in events) else "cpr-transfer"


def tells_of_setup(events: Sequence[Event]) -> bool:
    """Whether the source traces how it prepares: then there was no SETUP but what it tells of."""
    return any(event.name.startswith("migration_cpr_") for event in events)


def first_event(phase: str, phases: Mapping[str, Span], events: Sequence[Event]) -> Event:
    """The event with which `phase`, one of `phases`, began."""
    at_start = [event for event in events if event.t == phases[phase].start]
    return next((event for event in at_start if event.phase == phase), at_start[0])


def began(phases: Mapping[str, Span]) -> list[str]:
    """The phases in the order in which they began."""
    return sorted(phases, key=lambda name: phases[name].start)


def violated(wanted: Sequence[str], phases: Mapping[str, Span], events: Sequence[Event]) -> str:
    """What is wrong if the phases `wanted` did not begin in this order; empty if they did.

    Quotes the first event of each phase that is out of place, and of those around it. Raises ValueError for a
    word that is no phase. Two events that different clocks stamped within the bounds of their error are in
    either order.
    """
    unknown = [name for name in wanted if name not in PHASES]
    if unknown:
        raise ValueError(f"not a phase: {', '.join(unknown)}; phases are {', '.join(PHASES)}")
    missing = [name for name in wanted if name not in phases]
    if missing:
        seen = " < ".join(began(phases)) or "none"
        return f"order: no evidence of {', '.join(missing)}; phases seen: {seen} {tag(*missing)}"
    first = {name: first_event(name, phases, events) for name in wanted}
    wrong = out_of_place(wanted, first)
    if not wrong:
        return ""
    seen = " < ".join(name for name in began(phases) if name in wanted)
    lines = [f"order: expected {' < '.join(wanted)}, saw {seen} {tag(*wrong)}"]
    for name in wrong:
        lines += _explained(name, [p for p in wanted if p == name or p not in wrong], first)
    return "\n".join(lines)


def two_owners(ownership: Sequence[Mapping[str, Any]], events: Sequence[Event]) -> str:
    """What is wrong if two sides owned a queue at once; empty if not. Times are from the first event on."""
    lines = []
    for pair in overlaps(ownership):
        both = min(row["end"] for row in pair) - max(row["start"] for row in pair)
        since = events[0].t
        spans = (f"{r['owner']} from {_ms(r['start'] - since)} to {_ms(r['end'] - since)}" for r in pair)
        lines.append(
            f"  {pair[0]['device']} queue {pair[0]['queue']}: {', '.join(spans)}: both for {_ms(both)}"
        )
    if not lines:
        return ""
    return "\n".join(
        [f"ownership: one owner at a time expected, saw two {tag('release', 'acquire')}", *lines]
    )


def foreign_packets(events: Sequence[Event], phases: Mapping[str, Span]) -> str:
    """A sentence on `foreign_io`, with the first packets; empty if there was none."""
    foreign = foreign_io(events, phases)
    if not foreign:
        return ""
    blamed = tag(*dict.fromkeys("setup" if e.actor == "source" else "acquire" for e in foreign))
    lines = [f"ownership: packets went to the side that does not run the guest {blamed}"]
    return "\n".join([*lines, *(f"  {event}" for event in foreign[:_QUOTED])])


def out_of_place(wanted: Sequence[str], first: Mapping[str, Event]) -> list[str]:
    """The fewest phases without which the others began in the order `wanted`.

    Where there is a choice it is those that should have come first: they are late.
    """
    for count in range(len(wanted), 0, -1):
        for kept in reversed(list(itertools.combinations(wanted, count))):
            if not any(_after(first[a], first[b]) for a, b in itertools.pairwise(kept)):
                return [name for name in wanted if name not in kept]
    return []


def _after(a: Event, b: Event) -> bool:
    """Whether `a` was certainly later than `b`."""
    same_clock = (a.actor, a.observer) == (b.actor, b.observer)
    return a.t - b.t > (0 if same_clock else a.err + b.err)


def _explained(name: str, wanted: Sequence[str], first: Mapping[str, Event]) -> list[str]:
    """Where `name` should have been among phases that are in order, and events that show it was not."""
    position = wanted.index(name)
    passed = [other for other in wanted[position + 1 :] if _after(first[name], first[other])]
    awaited = [other for other in wanted[:position] if _after(first[other], first[name])]
    late = [f"before {passed[0]}, {_ms(first[name].t - first[passed[0]].t)} earlier"] if passed else []
    early = [f"after {awaited[-1]}, {_ms(first[awaited[-1]].t - first[name].t)} later"] if awaited else []
    quoted = sorted({name, *passed[:1], *awaited[-1:]}, key=lambda other: first[other].t)
    return [
        f"  {name} should have begun {' and '.join(early + late)}:",
        *(f"    {other}: {first[other]}" for other in quoted),
    ]


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"
