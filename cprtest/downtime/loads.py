# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest is busy with while it is handed over: the tests' own programs, as hard as they go.

Each starts something and returns when it is under way. It is load here and not judged: the tests do that.
"""

import contextlib
import socket
from collections.abc import Callable

from cprtest.bed import TestBed
from cprtest.guest.guest import Guest
from cprtest.limits import wait_until
from cprtest.workloads.cpu import CpuBurn
from cprtest.workloads.history import Problem
from cprtest.workloads.tcp import TcpStreams, to_guest
from cprtest.workloads.workload import Workload

_DISK = "vdb"
"""What fio writes: the first disk is that of the timed writes."""
_KEEP_MIB = 48

Start = Callable[[TestBed, Guest], Callable[[], None] | None]
"""Starts a load; what it returns, if anything, ends the host's part of it."""


class _Dirtying(Workload):
    """Writes all free memory over and over (assets/guest/memory-pattern.c)."""

    name = "memory"
    program = "memory-pattern"

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest, guest.spec.vcpus)
        self.start(f"memory-pattern {guest.spec.vcpus} {_KEEP_MIB} 0")

    def judge(self) -> list[Problem]:
        return []


def _network(bed: TestBed, guest: Guest) -> Callable[[], None]:
    """A TCP stream each way, without a pause."""
    made: list[socket.socket] = []
    through = to_guest(bed.network)

    def connect(port: int) -> socket.socket:
        made.append(through(port))
        return made[-1]

    def end() -> None:
        for one in made:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    try:
        TcpStreams(guest, connect, connections=1, pause_us=0).wait_progress(1)
    except BaseException:
        end()
        raise
    return end


def _disk(_bed: TestBed, guest: Guest) -> None:
    """Random reads and writes of 4 KiB, 32 at a time."""
    job = f"fio --name=load --filename=/dev/{_DISK} --thread --ioengine=libaio --direct=1 --bs=4k"
    guest.run(f"{job} --rw=randrw --iodepth=32 --time_based --runtime=1d >/run/load.log 2>&1 </dev/null &")
    before = _disk_statistics(guest)
    wait_until("fio to use its disk", lambda: _disk_statistics(guest) != before, 20, interval=0.05)


def _disk_statistics(guest: Guest) -> str:
    return guest.run(f"cat /sys/block/{_DISK}/stat")


def _memory(_bed: TestBed, guest: Guest) -> None:
    _Dirtying(guest).wait_progress(1, "sweep", seconds=60)


def _cpu(_bed: TestBed, guest: Guest) -> None:
    CpuBurn(guest).wait_progress()


LOADS: dict[str, tuple[Start, ...]] = {
    "idle": (),
    "network": (_network,),
    "disk": (_disk,),
    "memory": (_memory,),
    "cpu": (_cpu,),
    "all": (_network, _disk, _memory, _cpu),
}
"""Name -> what is started, in this order."""

WITH_DISK = frozenset({"disk", "all"})
"""Loads that need a second disk, and fio from the tools disk."""
