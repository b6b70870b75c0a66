# SPDX-License-Identifier: GPL-2.0-or-later
"""Downtime against the amount of a VFIO device's state: `python -m cprtest.downtime.bulk FILE [--rounds N]`.

To be run in a lab. Settings and sizes are measured in rounds, each in another order; FILE (JSON) has every
sample, is added to by later runs, and is rewritten after each sample. With --summary nothing is measured:
the slopes (Theil-Sen, 95 %) of what FILE has are printed.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cprtest.bed import TestBed
from cprtest.downtime import statistics
from cprtest.downtime.sample import Ahead
from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.host.bulk import supports
from cprtest.machine.devices import Assigned
from cprtest.paths import lane
from cprtest.provision import installed
from cprtest.workloads.bulk import BulkState


@dataclass(frozen=True)
class Setting:
    """What is compared. how: transfer, or reload (to a file, and from it).

    migration: QEMU's enable-migration. precopy: the device can be read before it is stopped.
    """

    qemu: str
    migration: str = "on"
    how: str = "transfer"
    precopy: bool = True

    @property
    def name(self) -> str:
        """As in the record."""
        without = "" if self.precopy else " without PRE_COPY"
        return f"{self.how} {self.qemu} migration={self.migration}{without}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("reference"),
        Setting("reference", "off"),
        Setting("mutants:stop-after-handover"),
        Setting("mutants:stop-after-handover", "off"),
        Setting("stock", "off"),
        Setting("reference", how="reload"),
        Setting("reference", how="reload", precopy=False),
    )
}
SIZES = (1, 16, 64, 256)


@dataclass(frozen=True)
class Sample:
    """One hand-over. pause: ms from the source's stop to the target's resume; mib: the device's state."""

    setting: str
    mib: int
    pause: float
    load: float
    """The machine's load average before."""


def measured(setting: Setting, sizes: list[int]) -> Iterator[Sample]:
    """Hand a guest from QEMU to QEMU, its device with another amount of state each time. Raises CprError."""
    qemu = installed.under_test(setting.qemu)
    supports(precopy=setting.precopy)
    with tempfile.TemporaryDirectory(prefix="cpr-bulk-") as scratch:
        directory = Path(scratch)
        with TestBed(qemu, qemu, directory, directory) as bed:
            bed.observe(Ahead())
            guest = bed.boot(passthrough=[Assigned("ivshmem", "vfio-bulk", setting.migration)])
            for mib in sizes:
                state = BulkState(guest, mib)
                load = os.getloadavg()[0]
                pause = _reloaded(bed, guest) if setting.how == "reload" else _transferred(bed, guest)
                state.check()
                yield Sample(setting.name, mib, round(pause / 1e6, 3), round(load, 2))


def _transferred(bed: TestBed, guest: Guest) -> int:
    outcome = bed.transfer(guest)
    outcome.assert_completed()
    ns = outcome.timeline.between("stop", "resume")
    if ns is None:
        raise CprError("the timeline of the transfer has no stop, or no resume")
    return ns


def _reloaded(bed: TestBed, guest: Guest) -> int:
    source = guest.machine
    bed.reload(guest)
    stop = [event.t for event in source.qmp.events if event.name == "STOP"]
    resume = [event.t for event in guest.machine.qmp.events if event.name == "RESUME"]
    return resume[-1] - stop[-1]


def slopes(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """ms a MiB of state for each setting, with the 95 % interval; the median pause at the smallest size."""
    found = {}
    for name in dict.fromkeys(sample.setting for sample in samples):
        mine = [sample for sample in samples if sample.setting == name]
        grows, _ = statistics.slope([(s.mib, s.pause) for s in mine])
        smallest = min(s.mib for s in mine)
        found[name] = {
            "samples": len(mine),
            "ms at the smallest": statistics.median([s.pause for s in mine if s.mib == smallest]).value,
            "ms a MiB": grows.value,
            "low": grows.low,
            "high": grows.high,
        }
    return found


def main() -> int:
    """Measure or sum up."""
    parser = argparse.ArgumentParser(prog="python -m cprtest.downtime.bulk", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=1, help="how often every setting (default 1)")
    parser.add_argument("--only", action="append", choices=SETTINGS, help="these settings; default: all")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, metavar="MIB", help=f"default: {SIZES}"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no setting after so many")
    parser.add_argument("--summary", action="store_true", help="print the slopes of FILE")
    options = parser.parse_args()
    record: dict[str, Any] = (
        json.loads(options.file.read_text()) if options.file.exists() else {"samples": []}
    )
    if options.summary:
        print(json.dumps(slopes([Sample(**sample) for sample in record["samples"]]), indent=1))
        return 0
    began = time.monotonic()
    versions = installed.versions()
    record |= {"lane": lane(), "cpus": os.cpu_count(), "qemu": versions["qemu"], "kernel": versions["kernel"]}
    for _ in range(options.rounds):
        names = options.only or list(SETTINGS)
        for name in random.sample(names, len(names)):
            if time.monotonic() - began > options.seconds:
                return 0
            sizes = random.sample(options.sizes, len(options.sizes))
            for sample in measured(SETTINGS[name], sizes):
                record["samples"].append(asdict(sample))
                options.file.write_text(json.dumps(record, indent=1) + "\n")
                print(sample.setting, sample.mib, "MiB:", sample.pause, "ms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
