# SPDX-License-Identifier: GPL-2.0-or-later
"""The timeline as SVG: phases on top, a row for each actor and device below, what is wrong in red.

Plain SVG (cprtest/timeline/svg.py); tooltips are <title>s. docs/timeline.md tells how to read it.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from cprtest.timeline import rows
from cprtest.timeline.scale import Scale
from cprtest.timeline.states import changes, paused
from cprtest.timeline.svg import bar, box, group, length, path, picture, room, text

if TYPE_CHECKING:
    from cprtest.timeline.timeline import Timeline

LEFT = 104
_MARGIN, _RIGHT = 104, 16
_LANE = 36
# Hues only help; what a phase is says its name. Light enough for the rows to be read on top of them.
_COLOUR = {
    "stop": "#f2dcc4",
    "setup": "#efe6b8",
    "release": "#f7d6d0",
    "handover": "#cfe8e4",
    "acquire": "#d5e6f5",
    "stream": "#dcdcf2",
    "complete": "#ececec",
    "resume": "#d6edd2",
    "rollback": "#f3d3e6",
}


def draw(timeline: Timeline) -> str:
    """The SVG text of `timeline`."""
    if not timeline.events:
        return picture(400, 60, "no event was seen", [text(10, 35, "no event was seen")])
    x, start, end = _scale(timeline)
    width = x.right + _RIGHT
    body, y = _head(timeline, width)
    band = y
    lanes = _lanes(timeline)
    below = band + _LANE * (max(lanes.values(), default=-1) + 1)
    drawn, bottom = rows.rows(rows.Frame(timeline, x, start, end), below + 14)
    body += _phases(timeline, x, lanes, band, bottom) + drawn
    body += _clock(timeline, x, bottom)
    strip, bottom = _to_scale(timeline, x.right, bottom + 34)
    body += strip
    legend, bottom = _legend(timeline, bottom + 14)
    return picture(width, bottom, _title(timeline), body + legend)


def _scale(timeline: Timeline) -> tuple[Scale, int, int]:
    """The scale, with room on both sides of the phases for what was before and comes after."""
    spans = timeline.phases
    edges = [edge for s in spans.values() for edge in (s.start, s.end)]
    owned = [row[edge] for row in timeline.ownership for edge in ("start", "end")]
    seen = [event.t for event in timeline.events]
    turns = changes(timeline.events)
    first, last = min(edges or seen), max([*edges, *turns] or seen) + 1
    start, end = min(first, *seen) - 1, max(last, *seen) + 1
    wide = sorted((s.start, max(s.end, s.start + 1), 9.0 * len(name) + 26) for name, s in spans.items())
    stretches = [(start, first, float(_MARGIN)), *wide, (last, end, float(_MARGIN))]
    return (
        Scale([start, end, *edges, *turns, *(t for t in owned if start < t < end)], stretches, LEFT),
        start,
        end,
    )


def _lanes(timeline: Timeline) -> dict[str, int]:
    """In which line each phase's block stands: the first where it does not cover another."""
    ends: list[int] = []
    lanes = {}
    for name in timeline.order():
        span = timeline.phases[name]
        lane = next((n for n, end in enumerate(ends) if end <= span.start), len(ends))
        ends[lane : lane + 1] = [max(span.end, span.start + 1)]
        lanes[name] = lane
    return lanes


def _blamed(timeline: Timeline) -> set[str]:
    """The phases that violations name."""
    tags = re.findall(r"\[phase ([\w, ]+)\]", "\n".join(timeline.violations))
    return {name for words in tags for name in words.split(", ")}


def _title(timeline: Timeline) -> str:
    pause = paused(timeline.events, timeline.phases)
    if pause is None:
        return f"{timeline.mode}: a guest that did not run, before or after"
    end = "rolled back, the guest" if "resume" not in timeline.phases else "the guest"
    return f"{timeline.mode}: {end} was paused for {length(pause[1] - pause[0])}"


def _head(timeline: Timeline, width: float) -> tuple[list[str], float]:
    """Title, the QEMUs, and what is wrong, each violation in its own line."""
    versions = list(
        dict.fromkeys(re.sub(r" build (\w{8})\w*", r" (build \1)", v) for v in timeline.qemu.values())
    )
    body = [text(10, 24, _title(timeline), "title")]
    if versions:
        body.append(text(10, 42, "QEMU " + ", handed over to ".join(versions), "small soft"))
    y = 58.0
    for violation in timeline.violations:
        lines = textwrap.wrap(violation.partition("\n")[0], int((width - 40) / 7.9))
        said = [
            text(10 if n == 0 else 26, y + 16 * n, f"✗ {line}" if n == 0 else line, "bad")
            for n, line in enumerate(lines)
        ]
        body.append(group(violation, *said))
        y += 16 * len(lines) + 2
    return body, y


def _phases(timeline: Timeline, x: Scale, lanes: dict[str, int], band: float, bottom: float) -> list[str]:
    """The blocks of the phases, and their shade on the rows below."""
    shades, blocks = [], []
    blamed = _blamed(timeline)
    for number, name in enumerate(timeline.order(), 1):
        span = timeline.phases[name]
        left, right = x(span.start), x(max(span.end, span.start + 1))
        y = band + _LANE * lanes[name]
        begins = span.start - _origin(timeline)
        tip = f"{name}: begins at {begins / 1e6:.3f} ms, takes {length(span.end - span.start)}"
        fill = f'fill="{_COLOUR[name]}" stroke="#6b6b6b"'
        shade = f'fill="{_COLOUR[name]}" fill-opacity=".45"'
        shades.append(box(left, y + _LANE - 4, right - left, bottom - y - _LANE + 4, "", more=shade))
        shades.append(path(f"M{left} {y + _LANE - 4}V{bottom}", "faint"))
        if name in blamed:
            fill = f'fill="{_COLOUR[name]}" stroke="#b00020" stroke-width="3"'
            shades.append(box(left, y + _LANE - 4, right - left, bottom - y - _LANE + 4, "wrong"))
        middle = (left + right) / 2
        sign = "✗ " if name in blamed else ""
        blocks += [
            box(left, y, right - left, _LANE - 4, "", tip=tip, more=fill),
            text(middle, y + 13, f"{sign}{number} {name}", "row bad" if sign else "row", "middle"),
            text(middle, y + 26, length(span.end - span.start), "small", "middle"),
        ]
    return [*shades, text(LEFT - 10, band + 20, "phases", "row", "end"), *blocks]


def _origin(timeline: Timeline) -> int:
    """The moment that times are counted from: the first phase's beginning, or the first event."""
    return min((span.start for span in timeline.phases.values()), default=timeline.events[0].t)


def _clock(timeline: Timeline, x: Scale, y: float) -> list[str]:
    """Times at the edges of phases, where they do not touch; the beginnings first."""
    spans = timeline.phases.values()
    wanted = [s.start for s in spans] + [s.end for s in spans]
    origin = _origin(timeline)
    taken: list[tuple[float, float]] = []
    body = [path(f"M{LEFT} {y}H{x.right}", "line"), text(LEFT - 10, y + 15, "time", "row", "end")]
    for t in wanted:
        label = f"{(t - origin) / 1e6:.3g}" if t - origin < 10**8 else f"{(t - origin) / 1e6:.0f}"
        half = room(label) / 2
        if any(a < x(t) + half and x(t) - half < b for a, b in taken):
            continue
        taken.append((x(t) - half, x(t) + half))
        body += [path(f"M{x(t)} {y}v5", "line"), text(x(t), y + 16, label, "small", "middle")]
    return [*body, text(x.right, y + 16, "ms, not to scale", "small soft", "end")]


def _to_scale(timeline: Timeline, right: float, y: float) -> tuple[list[str], float]:
    """The phases once more, true to scale: where the time goes."""
    order = timeline.order()
    if not order:
        return [], y
    origin = _origin(timeline)
    whole = max(span.end for span in timeline.phases.values()) - origin or 1
    per_ns = (right - LEFT) / whole
    body = [text(LEFT - 10, y + 13, "to scale", "row", "end")]
    for number, name in enumerate(order, 1):
        span = timeline.phases[name]
        wide = (span.end - span.start) * per_ns
        label = f"{number} {name}" if wide > room(f"{number} {name}") else str(number) if wide > 12 else ""
        fill = f'fill="{_COLOUR[name]}" stroke="#6b6b6b"'
        left = LEFT + (span.start - origin) * per_ns
        body.append(box(left, y, wide, 18, "", tip=f"{name}: {length(span.end - span.start)}", more=fill))
        body.append(text(left + wide / 2, y + 13, label, "small", "middle"))
    pause = paused(timeline.events, timeline.phases)
    if pause:
        left, until = (LEFT + (t - origin) * per_ns for t in pause)
        label = f"paused {length(pause[1] - pause[0])}"
        middle = min(max((left + until) / 2, LEFT + room(label) / 2), right - room(label) / 2)
        body.append(path(f"M{max(left, LEFT):.1f} {y + 25}H{min(until, right):.1f}", "span"))
        body.append(text(middle, y + 39, label, "small", "middle"))
    return body, y + 44


def _legend(timeline: Timeline, y: float) -> tuple[list[str], float]:
    """What the signs mean, those that occur."""
    signs = [("runs", "runs the guest"), ("stopped", "does not"), ("waits", "waits for descriptors")]
    if timeline.ownership:
        signs += [("source", "owned by the source"), ("target", "owned by the target")]
    left = float(LEFT)
    body = []
    for kind, words in signs:
        body += [bar(left, y, 22, 12, kind), text(left + 28, y + 10, words, "small")]
        left += room(words) + 32
    seen, unplaced = len(timeline.events), sum(event.phase is None for event in timeline.events)
    body += [path(f"M{left} {y}v12", "event"), text(left + 8, y + 10, f"event ({seen})", "small")]
    if unplaced:
        left += room(f"event ({seen})") + 10
        words = f"in no phase ({unplaced})"
        body += [rows.lost(left, y + 6, ""), text(left + 9, y + 10, words, "small")]
    return body, y + 24
