# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time of a pause goes: every instant of it belongs to one phase, so that the parts add up."""

import itertools
import re
from collections.abc import Mapping

from cprtest.machine.process import Machine
from cprtest.observe.trace import read_trace
from cprtest.timeline.phases import Span

PARTS = ("stop", "setup", "release", "handover", "acquire", "stream", "resume")
"""The phases that a pause is divided into; `complete` goes on beside `resume`."""


STEPS = ("memory", "machine", "devices")
"""What `acquire` is made of."""


def breakdown(phases: Mapping[str, Span]) -> dict[str, int]:
    """ns of each phase in the pause, from the beginning of stop to the end of resume; {} without these two.

    An instant is of the phase that began last among those that go on; where none does (QEMU is on its way to
    the next trace point) of the one that ended last. What began before the stop is over, whatever its end is
    taken from (a late stop waits for the target's devices), but for the stream of a live migration.
    """
    if "stop" not in phases or "resume" not in phases:
        return {}
    start, end = phases["stop"].start, phases["resume"].end
    begun = {name: phases[name] for name in PARTS if name in phases}
    spans = {name: span for name, span in begun.items() if span.start >= start or name == "stream"}
    edges = {edge for span in spans.values() for edge in (span.start, span.end) if start < edge < end}
    cuts = sorted({start, end} | edges)
    parts: dict[str, int] = {}
    for since, until in itertools.pairwise(cuts):
        name = _phase_at(spans, since)
        parts[name] = parts.get(name, 0) + until - since
    return parts


def steps(target: Machine, phases: Mapping[str, Span]) -> dict[str, int]:
    """ns of what the target does in `acquire`, by its own trace; {} where that does not tell.

    memory: until the last of the machine's memory is mapped. machine: until the first device on the command
    line is made, which includes the loading of kernel and initial RAM disk. devices: until it is done.
    A device's memory is called after its place ("0000:00:01.0/..."), the machine's is not (cpr_find_fd).
    """
    if "acquire" not in phases:
        return {}
    acquire = phases["acquire"]
    found = [
        (event.t, str(event.data["text"]).split(",")[0])
        for event in read_trace(target.trace, target.actor, target.clock, acquire.start)
        if event.name == "cpr_find_fd"
    ]
    own = [t for t, name in found if "/" not in name]
    devices = [t for t, name in found if re.match(r"[0-9a-f]{4}:", name)]
    if not own or not devices or not own[-1] < devices[0] < acquire.end:
        return {}
    edges = (acquire.start, own[-1], devices[0], acquire.end)
    return dict(zip(STEPS, (b - a for a, b in itertools.pairwise(edges)), strict=True))


def _phase_at(spans: Mapping[str, Span], t: int) -> str:
    """The phase just after `t`."""
    open_now = [name for name, span in spans.items() if span.start <= t < span.end]
    if open_now:
        return max(open_now, key=lambda name: spans[name].start)
    begun = [name for name, span in spans.items() if span.start <= t]
    return max(begun, key=lambda name: (spans[name].end, spans[name].start))
