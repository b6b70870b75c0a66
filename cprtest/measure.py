# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast a guest is ready in this lane: `python -m cprtest.measure [--count 10] [--vhost]`.

From the start of QEMU to the first answer over the console and, with --vhost, to the first echo reply
through the NIC that kernel vhost serves. Prints every sample, median and range as JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cprtest.bed import TestBed
from cprtest.machine.devices import GUEST_ADDRESS, Tap
from cprtest.paths import lane
from cprtest.provision import installed


def sample(vhost: bool) -> dict[str, float]:
    """One guest from saved state: seconds from QEMU's start to each first answer."""
    with tempfile.TemporaryDirectory(prefix="cpr-measure-") as scratch:
        directory = Path(scratch)
        qemu = installed.under_test()
        with TestBed(qemu, qemu, directory, directory) as bed:
            guest = bed.boot(net=Tap() if vhost else None)
            start = guest.machine.started
            result = {}
            if vhost:
                bed.network.ping(GUEST_ADDRESS.format(0))
                result["ping"] = (time.monotonic_ns() - start) / 1e9
            guest.run("true")
            result["console"] = (time.monotonic_ns() - start) / 1e9
            return result


def summary(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Median and range of each figure, in seconds, with the samples themselves."""
    figures: dict[str, Any] = {"lane": lane(), "count": len(samples)}
    for name in samples[0]:
        figures[name] = spread([s[name] for s in samples], 3)
    return figures


def spread(samples: Sequence[float], digits: int) -> dict[str, Any]:
    """Median and range of `samples`, and all of them, rounded to so many digits."""
    values = sorted(round(sample, digits) for sample in samples)
    return {"median": statistics.median(values), "range": [values[0], values[-1]], "all": values}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m cprtest.measure", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="guests to start (default 10)")
    parser.add_argument("--vhost", action="store_true", help="with a NIC served by kernel vhost")
    options = parser.parse_args()
    sample(options.vhost)  # makes the saved state, and warms the page cache
    print(json.dumps(summary([sample(options.vhost) for _ in range(options.count)])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
