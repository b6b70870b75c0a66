# SPDX-License-Identifier: GPL-2.0-or-later
"""How much load the workloads make, beside iperf3 and fio at their best: `python -m cprtest.rates`.

Rounds of each pair, in turn (ABBA), each on a fresh guest of this lane: TcpStreams without rests against
iperf3 both ways at once; DiskJournal without rests against fio that writes and flushes as it does. Where a
workload reaches what the standard tool reaches, the guest and its QEMU are the limit, and not the generator.
Prints every sample, median and range, and the same of the ratio, round by round, as JSON. The host needs
iperf3; the guest has its own.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cprtest.bed import TestBed
from cprtest.errors import CprError, exit_status
from cprtest.guest.guest import Guest
from cprtest.limits import wait_until
from cprtest.machine.devices import GUEST_ADDRESS, Tap
from cprtest.measure import spread
from cprtest.paths import lane
from cprtest.provision import installed
from cprtest.workloads.journal import DiskJournal
from cprtest.workloads.tcp import TcpStreams

_ADDRESS = GUEST_ADDRESS.format(0)
_IPERF_PORT = 5201
_WRITERS = 4
_RECORD = 8192
"""Bytes: what a record of the journal has on average."""

Rate = Callable[[TestBed, Guest, float], float]
"""Makes load on the guest for so many seconds, and returns what it reached."""


def streams(bed: TestBed, guest: Guest, seconds: float) -> float:
    """Gbit/s of TcpStreams, both ways together."""
    load = TcpStreams(
        guest, lambda port: bed.network.connect(_ADDRESS, port), connections=_WRITERS, pause_us=0
    )
    load.wait_progress(1)

    def carried() -> int:
        arrived = {op.who: int(op.result[1]) for op in load.operations("chunk")}
        return sum(end.received for end in load.connections) + sum(arrived.values())

    rate = _a_second(carried, seconds) * 8e-9
    load.stop()
    load.check()
    return rate


def _a_second(counted: Callable[[], int], seconds: float) -> float:
    """How fast a count grows, watched for so long. Counting takes its time at both ends."""
    start, before = time.monotonic(), counted()
    time.sleep(seconds)
    end, after = time.monotonic(), counted()
    return (after - before) / (end - start)


def iperf(bed: TestBed, guest: Guest, seconds: float) -> float:
    """Gbit/s of iperf3, both ways together, as many connections."""
    guest.run("iperf3 -s -D -1")
    listening = f"grep -qi :{_IPERF_PORT:04x} /proc/net/tcp /proc/net/tcp6"
    wait_until("iperf3 to listen", lambda: guest.succeeds(listening), 10)
    words = ["iperf3", "-c", _ADDRESS, "--bidir", "-P", str(_WRITERS), "-t", f"{seconds:.0f}", "-J"]
    said = json.loads(bed.network.run(words).stdout)["end"]
    ways = ("sum_received", "sum_received_bidir_reverse")
    return sum(float(said[way]["bits_per_second"]) for way in ways) / 1e9


def journal(_bed: TestBed, guest: Guest, seconds: float) -> float:
    """Durable writes a second of the disk journal, each of which reads another record back as well."""
    load = DiskJournal(guest, writers=_WRITERS, pause_us=0)
    load.wait_progress()
    rate = _a_second(lambda: len(load.operations("ack")), seconds)
    load.stop()
    load.check()
    return rate


def fio(_bed: TestBed, guest: Guest, seconds: float) -> float:
    """Durable writes a second of fio: as many writers, the same size, a flush after each, and a read."""
    job = (
        f"fio --name=best --filename=/dev/vda --thread --direct=1 --bs={_RECORD} --rw=randrw --rwmixread=50"
        f" --fdatasync=1 --numjobs={_WRITERS} --group_reporting --time_based --runtime={seconds:.0f}"
        " --ioengine=psync --output-format=json"
    )
    text = guest.run(job, seconds=seconds + 30)
    rate: float = json.loads(text[text.index("{") :])["jobs"][0]["write"]["iops"]
    return rate


PAIRS: dict[str, tuple[Rate, Rate]] = {"network Gbit/s": (streams, iperf), "disk writes/s": (journal, fio)}
"""What is compared, ours first."""


def sample(rate: Rate, seconds: float) -> float:
    """One rate, on a guest of its own: a history is of one run of a workload."""
    qemu = installed.under_test()
    with tempfile.TemporaryDirectory(prefix="cpr-rates-") as scratch:
        directory = Path(scratch)
        with TestBed(qemu, qemu, directory, directory) as bed:
            guest = bed.boot(net=Tap(vhost=False), disk=bed.disk(size_mib=256), tools=True)
            return rate(bed, guest, seconds)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Every sample of every pair, taken in turn."""
    if shutil.which("iperf3") is None:
        raise CprError("iperf3 is not installed on this host, and it is what is compared with.")
    figures: dict[str, Any] = {
        "lane": lane(),
        "qemu": str(installed.under_test().binary),
        "seconds": seconds,
        "rounds": rounds,
    }
    for what, pair in PAIRS.items():
        found: tuple[list[float], list[float]] = ([], [])
        for number in range(2 * rounds):
            which = (number + number // 2) % 2  # A B B A
            found[which].append(sample(pair[which], seconds))
            print(f"{what}: {pair[which].__name__} {found[which][-1]:.2f}", file=sys.stderr)
        figures[what] = {rate.__name__: spread(rates, 2) for rate, rates in zip(pair, found, strict=True)}
        figures[what]["ratio"] = spread([ours / best for ours, best in zip(*found, strict=True)], 3)
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m cprtest.rates", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="samples of each (default 8)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a sample (default 5)")
    options = parser.parse_args()
    return exit_status(lambda: print(json.dumps(measure(options.rounds, options.seconds))) or 0, "Stopped.")


if __name__ == "__main__":
    sys.exit(main())
