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

OBSERVERS: dict[str, Callable[[TestBed], list[Observer]]] = {
    "none": lambda _: [],
    "blackout": lambda bed: [Heartbeat(), Probe(bed.network), Writes()],
    "heartbeat": lambda _: [Heartbeat()],
    "probe": lambda bed: [Probe(bed.network)],
    "writes": lambda _: [Writes()],
    "gate": lambda _: [Gate()],
    "gate-descriptors": lambda _: [Gate(descriptors=True)],
    "proc": lambda _: [Proc()],
    "tracefs": lambda _: [Tracefs()],
}
"""blackout: the four figures of a pause, of which QEMU gives one by itself."""
