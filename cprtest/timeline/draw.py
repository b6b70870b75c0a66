# SPDX-License-Identifier: GPL-2.0-or-later
"""The timeline as SVG: rows for the actors, phases shaded, the pause of the guest marked.

Plain SVG without scripts: it is embedded in the report, mailed, printed. Tooltips are <title>s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from cprtest.timeline.event import Event
    from cprtest.timeline.timeline import Timeline

# From ns on the common clock to a horizontal position in the drawing.
Scale = Callable[[int], float]

_WIDTH, _LEFT, _RIGHT = 1000, 90, 20
_TOP, _ROW, _BAR = 20, 46, 14
_ROWS = ("source", "target", "guest", "net", "host")
_COLOUR = {
    "stop": "#8c510a",
    "setup": "#bf812d",
    "release": "#dfc27d",
    "handover": "#35978f",
    "acquire": "#80cdc1",
    "stream": "#5e81ac",
    "complete": "#7b6ba8",
    "resume": "#4d9221",
    "rollback": "#c51b7d",
}


def draw(timeline: Timeline) -> str:
    """The SVG text of `timeline`."""
    spans = timeline.phases
    if not timeline.events:
        return _svg(60, ['<text x="10" y="35">no event was seen</text>'])
    edges = [edge for s in spans.values() for edge in (s.start, s.end)] or [e.t for e in timeline.events]
    start, end = min(edges), max(edges)
    margin = max((end - start) // 25, 1)
    start, end = start - margin, end + margin

    def x(t: int) -> float:
        return round(_LEFT + (t - start) / (end - start) * (_WIDTH - _LEFT - _RIGHT), 2)

    actors = [a for a in _ROWS if a in ("source", "target") or any(e.actor == a for e in timeline.events)]
    names = sorted(spans, key=lambda name: spans[name].start)
    phases_height = 18 * len(names)
    body = []
    for n, name in enumerate(names):
        left, right = x(spans[name].start), x(spans[name].end)
        width = max(right - left, 1.5)
        y = _TOP + 18 * n
        length = _ms(spans[name].end - spans[name].start)
        colour = _COLOUR[name]
        below = _TOP + phases_height + len(actors) * _ROW
        body.append(
            f'<rect x="{left}" y="{y}" width="{width}" height="{below - y}" fill="{colour}" opacity="0.13"/>'
            f'<rect x="{left}" y="{y}" width="{width}" height="{_BAR}" fill="{colour}">'
            f"<title>{name}: {length}, from {_ms(spans[name].start - start)}</title></rect>"
        )
        label = f"{name} {length}"
        inside = left + width + 4 + 7 * len(label) < _WIDTH
        anchor = f'x="{left + width + 4}"' if inside else f'x="{left - 4}" text-anchor="end"'
        body.append(f'<text {anchor} y="{y + 11}" class="phase">{label}</text>')
    for n, actor in enumerate(actors):
        y = _TOP + phases_height + n * _ROW + 26
        body.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" class="row">{actor}</text>'
            f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" class="row"/>'
        )
        changes = [e for e in timeline.events if e.actor == actor and e.name == "runstate_set"]
        body += _running(changes, y, x, start, end)
        body += [
            f'<line x1="{x(e.t)}" y1="{y - 9}" x2="{x(e.t)}" y2="{y + 9}" class="event">'
            f"<title>{escape(str(e))}</title></line>"
            for e in timeline.events
            if e.actor == actor and start <= e.t <= end
        ]
    y = _TOP + phases_height + len(actors) * _ROW + 10
    body += _pause(timeline, x, y) + _axis(start, end, x, y + 34)
    return _svg(y + 60, body)


def _running(changes: list[Event], y: int, x: Scale, start: int, end: int) -> list[str]:
    """A thick bar while the guest runs on one side, from that side's run-state `changes`."""
    if not changes:
        return []
    bars = []
    since = start if "(running) new" in _text(changes[0]) else None
    for e in changes:
        if _text(e).endswith("(running)"):
            since = e.t
        elif since is not None:
            bars.append((since, e.t))
            since = None
    if since is not None:
        bars.append((since, end))
    return [
        f'<rect x="{x(a)}" y="{y - 5}" width="{max(x(b) - x(a), 1)}" height="10" class="running">'
        f"<title>guest runs on {changes[0].actor}</title></rect>"
        for a, b in bars
    ]


def _text(event: Event) -> str:
    return str(event.data.get("text", ""))


def _pause(timeline: Timeline, x: Scale, y: int) -> list[str]:
    """The bracket from stop to resume (or to the end of a roll-back)."""
    spans = timeline.phases
    last = spans.get("resume") or spans.get("rollback")
    if "stop" not in spans or last is None:
        return []
    a, b = spans["stop"].start, last.end
    return [
        f'<path d="M{x(a)} {y - 4}v8H{x(b)}v-8" class="pause"/>'
        f'<text x="{(x(a) + x(b)) / 2}" y="{y + 17}" text-anchor="middle" class="phase">'
        f"guest paused {_ms(b - a)}</text>"
    ]


def _axis(start: int, end: int, x: Scale, y: int) -> list[str]:
    span = end - start
    step = 10 ** (len(str(span)) - 1)
    step = step // 5 if span / step < 2 else step // 2 if span / step < 5 else step
    ticks = range(0, span + 1, max(step, 1))
    return [f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" class="row"/>'] + [
        f'<line x1="{x(start + t)}" y1="{y}" x2="{x(start + t)}" y2="{y + 5}" class="row"/>'
        f'<text x="{x(start + t)}" y="{y + 17}" text-anchor="middle" class="tick">{_ms(t)}</text>'
        for t in ticks
    ]


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f} ms" if ns >= 10**5 else f"{ns / 1e3:.0f} us"


def _svg(height: int, body: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" role="img" aria-label="timeline of the hand-over">'
        "<style>text{font-size:12px;fill:#222}.phase,.tick{font-size:11px}.row{stroke:#999}"
        "text.row{stroke:none;font-weight:bold}.event{stroke:#222;stroke-width:1}"
        ".running{fill:#4d9221}.pause{fill:none;stroke:#222;stroke-width:1.5}</style>"
        '<rect width="100%" height="100%" fill="#fff"/>' + "".join(body) + "</svg>\n"
    )
