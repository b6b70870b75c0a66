# SPDX-License-Identifier: GPL-2.0-or-later
"""Who watches a hand-over that is measured, by name; the benchmark can compare them with one another."""

from collections.abc import Callable

from cprtest.bed import TestBed
from cprtest.observe.gate import Gate
from cprtest.observe.heartbeat import Heartbeat
from cprtest.observe.observer import Observer
from cprtest.observe.probe import Probe
from cprtest.observe.proc import Proc
from cprtest.observe.tracefs import Tracefs
from cprtest.observe.writes import Writes

_LOOK_US = 500
"""Between two looks at the guest's counters: signs of life come every one or two milliseconds without KVM."""


def _blackout(bed: TestBed) -> list[Observer]:
    return [Heartbeat(look_us=_LOOK_US), Probe(bed.network), Writes(look_us=_LOOK_US)]


OBSERVERS: dict[str, Callable[[TestBed], list[Observer]]] = {
    "none": lambda _: [],
    "blackout": _blackout,
    "heartbeat": lambda _: [Heartbeat(look_us=_LOOK_US)],
    "heartbeat-sharp": lambda _: [Heartbeat()],
    "probe": lambda bed: [Probe(bed.network)],
    "writes": lambda _: [Writes(look_us=_LOOK_US)],
    "gate": lambda _: [Gate()],
    "gate-descriptors": lambda _: [Gate(descriptors=True)],
    "proc": lambda _: [Proc()],
    "tracefs": lambda _: [Tracefs()],
    "all": lambda bed: [Heartbeat(look_us=_LOOK_US), Probe(bed.network), Gate(descriptors=True), Proc()],
}
"""all: what tests use and needs no root.
blackout: the four figures of a pause, of which QEMU gives one by itself."""
