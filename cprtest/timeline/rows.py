# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of the drawing: source, target, guest, network, devices, downtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cprtest.timeline.downtime import FIGURES, silence
from cprtest.timeline.ownership import overlaps
from cprtest.timeline.scale import Scale
from cprtest.timeline.states import paused, states
from cprtest.timeline.svg import bar, box, group, length, path, room, text

if TYPE_CHECKING:
    from cprtest.timeline.event import Event
    from cprtest.timeline.timeline import Timeline

_BAR, _QUEUE, _GAP = 20, 14, 12
_BETWEEN = 54  # where the arrows between source and target are
_MOST_TICKS = 400


@dataclass(frozen=True)
class Frame:
    """What is drawn: `timeline` from `start` to `end` (ns), on the scale `x`."""

    timeline: Timeline
    x: Scale
    start: int
    end: int


def rows(frame: Frame, y: float) -> tuple[list[str], float]:
    """All rows from `y` down, and where they end."""
    body: list[str] = []
    left = frame.x(frame.start) - 10
    tops = {"source": y + _GAP, "target": y + _GAP + _BAR + _BETWEEN}
    for actor, top in tops.items():
        body.append(text(left, top + 14, actor, "row", "end"))
        for s in states(actor, frame.timeline.events, frame.timeline.phases, frame.start, frame.end):
            tip = f"{actor} {s.words}: {length(s.end - s.start)}"
            body.append(
                bar(
                    frame.x(s.start),
                    top,
                    frame.x(s.end) - frame.x(s.start),
                    _BAR,
                    s.kind,
                    label=s.words,
                    tip=tip,
                )
            )
    body += _ticks(frame, "source", tops["source"] - 8)
    body += _ticks(frame, "target", tops["target"] + _BAR)
    body += _arrows(frame, tops["source"] + _BAR, tops["target"])
    y = tops["target"] + _BAR + 8 + _GAP
    for drawn in (_guest, _others, _devices, _downtime):
        more, y = drawn(frame, y)
        body += more
    return body, y


def lost(x: float, y: float, tip: str) -> str:
    """The sign of an event that is in no phase."""
    return group(tip, f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="tl-lost"/>')


def _ticks(frame: Frame, actor: str, y: float) -> list[str]:
    """A tick for each event of `actor`, a ring for one that is in no phase."""
    own = [event for event in frame.timeline.events if event.actor == actor]
    body = []
    for event in own[:: len(own) // _MOST_TICKS + 1]:
        tip = _tip(frame.timeline, event)
        if event.phase is None:
            body.append(lost(frame.x(event.t), y + 4, tip))
        else:
            d = f"M{frame.x(event.t)} {y}v8"
            body.append(group(tip, path(d, "hit"), path(d, "event")))
    return body


def _tip(timeline: Timeline, event: Event) -> str:
    since = (event.t - timeline.events[0].t) / 1e6
    detail = " ".join(str(value) for value in event.data.values())
    result = {True: ", succeeded", False: ", failed", None: ""}[event.ok]
    where = f"phase {event.phase}" if event.phase else "in no phase"
    return (
        f"{event.name} {detail}\n{event.actor}, seen by {event.observer}{result}\n"
        f"{since:.3f} ms after the first event (± {length(event.err)}), {where}"
    )


def _arrows(frame: Frame, upper: float, lower: float) -> list[str]:
    """What passes between source and target: descriptors, the hang-up, the device state."""
    spans = frame.timeline.phases
    going = []
    if "handover" in spans:
        read = any(event.name == "cpr_state_load" for event in frame.timeline.events)
        label = "descriptors" if read else "descriptors, not read"
        going.append((spans["handover"].start, upper, spans["handover"].end, lower, label))
    if "acquire" in spans and frame.timeline.mode == "cpr-transfer":
        going.append((spans["acquire"].end, lower, spans["acquire"].end, upper, "ready"))
    if "stream" in spans and frame.timeline.mode == "cpr-transfer":
        going.append((spans["stream"].start, upper, spans["stream"].end, lower, "device state"))
    body = []
    for t1, y1, t2, y2, label in going:
        x1, x2, down = frame.x(t1), frame.x(t2), 2 if y1 < y2 else -2
        # One that goes up has its label beside it: the next one down begins there.
        middle = (x1 + x2) / 2 if y1 < y2 else x1 - room(label) / 2 - 4
        height = (y1 + y2) / 2
        body += [
            path(f"M{x1} {y1 + down}L{x2} {y2 - down}", "arrow"),
            box(middle - room(label) / 2, height - 8, room(label), 15, "", more='fill="#fff" rx="3"'),
            text(middle, height + 4, label, "small", "middle"),
        ]
    return body


def _guest(frame: Frame, y: float) -> tuple[list[str], float]:
    """Where the guest runs, and the pause in between."""
    ran = [
        (actor, s)
        for actor in ("source", "target")
        for s in states(actor, frame.timeline.events, frame.timeline.phases, frame.start, frame.end)
        if s.kind == "runs"
    ]
    left = frame.x(frame.start)
    body = [text(left - 10, y + 14, "guest", "row", "end")]
    for actor, s in ran:
        words = f"runs on {actor}"
        body.append(
            bar(frame.x(s.start), y, frame.x(s.end) - frame.x(s.start), _BAR, "runs", label=words, tip=words)
        )
    if not ran:
        words = "does not run"
        body.append(bar(left, y, frame.x(frame.end) - left, _BAR, "stopped", label=words, tip=words))
    if pause := paused(frame.timeline.events, frame.timeline.phases):
        words = f"paused {length(pause[1] - pause[0])}"
        body.append(
            bar(
                frame.x(pause[0]),
                y,
                frame.x(pause[1]) - frame.x(pause[0]),
                _BAR,
                "stopped",
                label=words,
                tip=words,
            )
        )
    ticks = _ticks(frame, "guest", y + _BAR)
    return body + ticks, y + _BAR + _GAP + (8 if ticks else 0)


def _others(frame: Frame, y: float) -> tuple[list[str], float]:
    """Rows of events only: the network, the host, and actors that nobody foresaw."""
    body: list[str] = []
    known = ("source", "target", "guest")
    for actor in dict.fromkeys(event.actor for event in frame.timeline.events if event.actor not in known):
        name = "network" if actor == "net" else actor
        body += [
            text(frame.x(frame.start) - 10, y + 12, name, "row", "end"),
            path(f"M{frame.x(frame.start)} {y + 8}H{frame.x(frame.end)}", "line"),
        ]
        body += _ticks(frame, actor, y + 4)
        y += 16 + _GAP
    return body, y


def _devices(frame: Frame, y: float) -> tuple[list[str], float]:
    """A bar for each time that a side owned a queue; two owners at once in red."""
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in frame.timeline.ownership:
        lines.setdefault((row["device"], row["queue"]), []).append(row)
    alone = {device for device, _ in lines if sum(d == device for d, _ in lines) == 1}
    body = []
    for (device, queue), owned in sorted(lines.items()):
        name = device if device in alone else f"{device} q{queue}"
        body.append(text(frame.x(frame.start) - 10, y + 11, name, "row", "end"))
        body.append(path(f"M{frame.x(frame.start)} {y + _QUEUE / 2}H{frame.x(frame.end)}", "faint"))
        body += [_owner(frame, row, y) for row in owned]
        body += [_both(frame, pair, y) for pair in overlaps(owned)]
        y += _QUEUE + 5
    return body, y + (_GAP - 5 if lines else 0)


def _owner(frame: Frame, row: dict[str, Any], y: float) -> str:
    """A bar; one that reaches to the first or last event was so before, or stays so."""
    first, last = frame.timeline.events[0].t, frame.timeline.events[-1].t
    since = "before" if row["start"] <= first else f"{(row['start'] - first) / 1e6:.3f} ms"
    until = "the end" if row["end"] >= last else f"{(row['end'] - first) / 1e6:.3f} ms"
    tip = f"{row['device']} queue {row['queue']} owned by the {row['owner']}, from {since} to {until}"
    left = frame.x(frame.start if row["start"] <= first else row["start"])
    right = frame.x(frame.end if row["end"] >= last else row["end"])
    return bar(left, y, right - left, _QUEUE, row["owner"], label=row["owner"], tip=tip)


def _both(frame: Frame, pair: tuple[Mapping[str, Any], Mapping[str, Any]], y: float) -> str:
    """Two owners at once: the source above, the target below, in a red frame."""
    since, until = max(row["start"] for row in pair), min(row["end"] for row in pair)
    left, wide = frame.x(since), frame.x(until) - frame.x(since)
    tip = f"{pair[0]['device']} queue {pair[0]['queue']}: two owners for {length(until - since)}"
    half = _QUEUE / 2
    return group(
        tip,
        box(left, y, wide, half, "source"),
        box(left, y + half, wide, half, "target"),
        bar(left, y - 2, wide, _QUEUE + 4, "both", label="✗ both"),
    )


def _downtime(frame: Frame, y: float) -> tuple[list[str], float]:
    """A line with two arrow heads for each way in which the downtime was seen."""
    body = []
    for label, left, right in _downtimes(frame.timeline):
        line = y + 8
        middle = (frame.x(left) + frame.x(right)) / 2
        body += [
            path(f"M{frame.x(left)} {line - 6}v12M{frame.x(right)} {line - 6}v12", "line"),
            path(f"M{frame.x(left)} {line}H{frame.x(right)}", "span"),
            box(middle - room(label) / 2, line - 8, room(label), 16, "", more='fill="#fff" rx="3"'),
            text(middle, line + 4, label, "small", "middle"),
        ]
        y += 19
    if body:
        body.append(
            text(
                frame.x(frame.start) - 10,
                y - 19 * len(_downtimes(frame.timeline)) + 12,
                "downtime",
                "row",
                "end",
            )
        )
    return body, y + (_GAP if body else 0)


def _downtimes(timeline: Timeline) -> Sequence[tuple[str, int, int]]:
    """Label, start and end of each downtime that can be placed."""
    found = []
    for figure in FIGURES:
        if edges := silence(timeline.events, figure):
            found.append((f"{figure} {length(edges[1] - edges[0])}", *edges))
    pause = paused(timeline.events, timeline.phases)
    if pause:
        said = timeline.downtime.get("qemu")
        by_qemu = f", QEMU reports {length(said)}" if said is not None else ""
        found.append((f"run states {length(pause[1] - pause[0])}{by_qemu}", *pause))
    return found
