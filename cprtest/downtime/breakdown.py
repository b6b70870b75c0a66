# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time of a pause goes: every instant of it belongs to one phase, so that the parts add up."""

import itertools
from collections.abc import Mapping

from cprtest.timeline.phases import Span

PARTS = ("stop", "setup", "release", "handover", "acquire", "stream", "resume")
"""The phases that a pause is divided into; `complete` goes on beside `resume`."""


def breakdown(phases: Mapping[str, Span]) -> dict[str, int]:
    """ns of each phase in the pause, from the beginning of stop to the end of resume; {} without these two.

    An instant is of the phase that began last among those that go on; where none does (QEMU is on its way to
    the next trace point) of the one that ended last. So with a late stop, what went before it counts nothing.
    """
    if "stop" not in phases or "resume" not in phases:
        return {}
    start, end = phases["stop"].start, phases["resume"].end
    spans = {name: phases[name] for name in PARTS if name in phases}
    edges = {edge for span in spans.values() for edge in (span.start, span.end) if start < edge < end}
    cuts = sorted({start, end} | edges)
    parts: dict[str, int] = {}
    for since, until in itertools.pairwise(cuts):
        name = _phase_at(spans, since)
        parts[name] = parts.get(name, 0) + until - since
    return parts


def _phase_at(spans: Mapping[str, Span], t: int) -> str:
    """The phase just after `t`."""
    open_now = [name for name, span in spans.items() if span.start <= t < span.end]
    if open_now:
        return max(open_now, key=lambda name: spans[name].start)
    begun = [name for name, span in spans.items() if span.start <= t]
    return max(begun, key=lambda name: (spans[name].end, spans[name].start))
