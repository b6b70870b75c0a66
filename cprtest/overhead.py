# SPDX-License-Identifier: GPL-2.0-or-later
"""What an observer costs: `python -m cprtest.overhead OBSERVER [--pairs 30] [--vhost]`.

Transfers of fresh guests with and without it, in pairs, which of the two comes first alternating. The figure
is how long the guest was paused, from the run state's change on the source to that on the target, by QEMU's
traces. Prints JSON: every sample, medians, the median of the differences within a pair and the interval that
has it with 95 % confidence.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cprtest.bed import TestBed
from cprtest.errors import CprError
from cprtest.machine.devices import Tap
from cprtest.measure import spread
from cprtest.observe.gate import Gate
from cprtest.observe.heartbeat import Heartbeat
from cprtest.observe.observer import Observer
from cprtest.observe.probe import Probe
from cprtest.observe.proc import Proc
from cprtest.observe.tracefs import Tracefs
from cprtest.paths import lane
from cprtest.provision import installed

OBSERVERS: dict[str, Callable[[TestBed], list[Observer]]] = {
    "none": lambda _: [Observer()],  # against itself: what the difference is by chance
    "gate": lambda _: [Gate()],
    "gate-descriptors": lambda _: [Gate(descriptors=True)],
    "tracefs": lambda _: [Tracefs()],
    "proc": lambda _: [Proc()],
    "heartbeat": lambda _: [Heartbeat()],
    "probe": lambda bed: [Probe(bed.network)],
    "all": lambda bed: [Gate(), Proc(), Heartbeat(), Probe(bed.network)],
}


def _nobody(_: TestBed) -> list[Observer]:
    return []


def paused(observers: Callable[[TestBed], Sequence[Observer]], vhost: bool) -> float:
    """Seconds that a guest was paused in one transfer."""
    with tempfile.TemporaryDirectory(prefix="cpr-overhead-") as scratch:
        directory = Path(scratch)
        qemu = installed.under_test()
        with TestBed(qemu, qemu, directory, directory) as bed:
            bed.observe(*observers(bed))
            outcome = bed.transfer(bed.boot(net=Tap(vhost=vhost)))
            outcome.assert_completed()
            ns = outcome.timeline.between("stop", "resume")
    if ns is None:
        raise CprError("the timeline of the transfer has no stop, or no resume")
    return ns / 1e9


def compare(observers: Callable[[TestBed], Sequence[Observer]], pairs: int, vhost: bool) -> dict[str, Any]:
    """Seconds with and without `observers`, `pairs` times."""
    without: list[float] = []
    with_it: list[float] = []
    for number in range(pairs):
        for on in (False, True) if number % 2 == 0 else (True, False):
            (with_it if on else without).append(paused(observers if on else _nobody, vhost))
    differences = sorted(b - a for a, b in zip(without, with_it, strict=True))
    low, high = confidence(pairs)
    return {
        "lane": lane(),
        "pairs": pairs,
        "without": spread(without, 6),
        "with": spread(with_it, 6),
        "difference": {
            "median": round(statistics.median(differences), 6),
            "confidence 95 %": [round(differences[low], 6), round(differences[high], 6)],
        },
    }


def confidence(count: int) -> tuple[int, int]:
    """Indexes into `count` sorted samples between which the median lies with 95 % (binomial, exact)."""
    low, tail = 0, 0.0
    while (tail := tail + math.comb(count, low) / 2**count) <= 0.025:
        low += 1
    low = max(low - 1, 0)
    return low, count - 1 - low


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m cprtest.overhead", description=__doc__)
    parser.add_argument("observer", choices=OBSERVERS)
    parser.add_argument("--pairs", type=int, default=30, help="how many transfers of each kind (default 30)")
    parser.add_argument("--vhost", action="store_true", help="the guest's NIC is served by kernel vhost")
    options = parser.parse_args()
    paused(_nobody, options.vhost)  # makes the saved state, and warms the page cache
    print(json.dumps(compare(OBSERVERS[options.observer], options.pairs, options.vhost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
