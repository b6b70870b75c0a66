# SPDX-License-Identifier: GPL-2.0-or-later
"""Downtime as observers saw it: from the last sign of life before the pause to the first one after it."""

from collections.abc import Sequence

from cprtest.timeline.event import Event

FIGURES = {
    "vcpu": ("beat_last", "beat_first"),
    "network": ("packet_last", "packet_first"),
    "disk": ("write_last", "write_first"),
}
"""Figure of timeline.json -> the events that it is the time between."""


def downtimes(events: Sequence[Event], qemu: int | None) -> dict[str, int | None]:
    """ns by figure, None where not measured. `qemu`: QEMU's own figure, if it gave one.

    Where several were observed (vCPUs, NICs: `data` says which) the figure is the longest of them.
    """
    seen = {figure: silence(events, figure) for figure in FIGURES}
    return {figure: edges[1] - edges[0] if edges else None for figure, edges in seen.items()} | {"qemu": qemu}


def silence(events: Sequence[Event], figure: str) -> tuple[int, int] | None:
    """From which to which moment the longest silence of `figure` was; None if there was none."""
    last, first = FIGURES[figure]
    ends = {e.data.get("index", 0): e.t for e in events if e.name == first}
    spans = [
        (e.t, ends[e.data.get("index", 0)])
        for e in events
        if e.name == last and e.data.get("index", 0) in ends
    ]
    return max(spans, key=lambda edges: edges[1] - edges[0], default=None)
