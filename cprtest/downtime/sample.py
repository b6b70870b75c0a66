# SPDX-License-Identifier: GPL-2.0-or-later
"""One sample: a fresh guest is loaded, handed over once, and the length of its pause is taken four ways."""

import contextlib
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cprtest import needs
from cprtest.bed import TestBed
from cprtest.downtime.breakdown import breakdown, steps
from cprtest.downtime.loads import LOADS, WITH_DISK
from cprtest.downtime.observers import OBSERVERS
from cprtest.downtime.settings import Setting
from cprtest.errors import CprError, UsageError
from cprtest.guest.guest import Guest
from cprtest.host.bulk import supports
from cprtest.host.pci import VFIO_BULK
from cprtest.host.runs import Run
from cprtest.lab.devices import further_ivshmem
from cprtest.limits import wait_until
from cprtest.machine.devices import Tap
from cprtest.machine.memory import memory_file
from cprtest.machine.plugged import Assigned
from cprtest.machine.process import Machine
from cprtest.observe.observer import Observer
from cprtest.outcome import Outcome
from cprtest.provision import installed
from cprtest.workloads.bulk import BulkState
from cprtest.workloads.ivshmem import Ivshmem

FIGURES = {
    "vcpu": "the guest's heartbeat was silent",
    "network": "no packet of the guest's came through its tap",
    "disk": "no write of the guest's was completed",
    "qemu": "QEMU's own figure (downtime of query-migrate; whole milliseconds)",
    "paused": "from stop to resume by QEMU's trace; what the phases add up to",
    "total": "from the start of the target to the end of resume",
    "start": "from the target's start until it waits for its source",
    "defer": "QEMU's start with -incoming defer until its devices are made and it answers a command",
}
"""What a sample has, in us, and what it means."""

_ROLES = (
    *("virtio-net", "igb-vf", "igb-vf", "nvme", "e1000e"),
    *(further_ivshmem(mib) for mib in (1, 2)),
    "ivshmem",
)
"""Devices to pass through, in order. The further ones: scripts/lab run --ivshmem 64M,1M,2M."""
_BACKINGS = ("memfd", "hugepages", "shm")
_MIGRATION = ("auto", "on", "off")
_SPARE = 512 << 20
"""Bytes, more than a QEMU takes for itself."""
_POLL = ("7 ", "271 ")  # poll(2) and ppoll(2) on x86-64


@dataclass
class Sample:
    """What one hand-over gave. figures, phases, steps: us by name. error: why there is nothing.

    load: the machine's load average before; took: seconds in all.
    """

    figures: dict[str, int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    load: float = 0.0
    took: float = 0.0
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the record; what is empty is left out."""
        return {key: value for key, value in asdict(self).items() if value or key == "figures"}


class Ahead(Observer):
    """Lets `migrate` wait until the target has started as far as it gets without the source.

    All pauses that are compared then begin with the target in the same state. `took`: ns of that start.
    """

    took = 0

    def begin(self, source: Machine, target: Machine) -> None:
        if target.pid == source.pid:  # cpr-exec: there is none yet
            return
        call = Path(f"/proc/{target.pid}/syscall")
        wait_until(
            "the target to wait for its source",
            lambda: call.read_text().startswith(_POLL),
            10,
            interval=0.001,
        )
        self.took = time.monotonic_ns() - target.started


def unable(setting: Setting) -> list[str]:
    """Why `setting` cannot be measured here, a sentence each. Raises UsageError for what makes no sense."""
    if setting.load not in LOADS:
        raise UsageError(f"There is no load {setting.load!r}; loads are {', '.join(LOADS)}.")
    if setting.observers not in OBSERVERS:
        raise UsageError(f"There are no observers {setting.observers!r}; there are {', '.join(OBSERVERS)}.")
    if setting.migration not in _MIGRATION:
        raise UsageError(f"migration is one of {', '.join(_MIGRATION)}, not {setting.migration!r}.")
    if setting.backing not in _BACKINGS:
        raise UsageError(f"backing is one of {', '.join(_BACKINGS)}, not {setting.backing!r}.")
    if setting.vfio > len(_ROLES):
        raise UsageError(f"A lab has {len(_ROLES)} devices to pass through, not {setting.vfio}.")
    own = {"data": "ivshmem" if setting.data else "", "bar": further_ivshmem(setting.bar)}
    if both := [name for name, role in own.items() if role in _ROLES[: setting.vfio]]:
        raise UsageError(f"{both[0]} and vfio want the same ivshmem device: let vfio be smaller.")
    mode = "normal" if setting.mode == "live" else setting.mode
    copies = 2 if setting.mode == "live" else 1  # in all other modes both sides share the guest's memory
    memory, huge = copies * setting.memory, setting.backing == "hugepages"
    wanted = ["tun", "netns", f"qemu:{mode}", f"memory:{1024 if huge else 1024 + memory}"]
    wanted += ["kvm", "vhost-net"] if setting.vhost else []
    wanted += [f"hugepages:{memory}"] if huge else []
    if passed := _passthrough(setting):
        wanted += ["kvm", "qemu:vfio-cpr", *(f"vfio:{how.role}" for how in passed)]
    wanted += ["module:vfio-bulk"] if setting.data else []
    wanted += ["tracer"] if setting.observers == "tracefs" else []
    return needs.unmet(wanted, installed.under_test(setting.qemu).binary)


def take(setting: Setting) -> Sample:
    """Measure `setting` once. A hand-over that goes wrong is a sample with an error, and is not repeated."""
    began, load = time.monotonic(), round(os.getloadavg()[0], 1)
    qemu = installed.under_test(setting.qemu)
    directory = Run.start().scratch()  # the bed's end removes it
    try:
        with TestBed(qemu, qemu, directory, directory) as bed:
            sample = _measured(bed, setting)
    except (CprError, AssertionError, OSError) as error:
        sample = Sample(error=(str(error) or type(error).__name__).splitlines()[0])
    sample.load, sample.took = load, round(time.monotonic() - began, 2)
    return sample


def _measured(bed: TestBed, setting: Setting) -> Sample:
    ahead = Ahead()
    if setting.ahead:
        bed.observe(ahead)
    bed.observe(*OBSERVERS[setting.observers](bed))
    guest = _boot(bed, setting)
    first = guest.machine
    _fill(guest)
    _take_spare()
    with contextlib.ExitStack() as ends:
        for start in LOADS[setting.load]:
            end = start(bed, guest)
            if end is not None:
                ends.callback(end)
        checks = _contents(guest, setting)
        outcome = bed.transfer(guest, mode=setting.mode, target_boots=setting.kernel)
        outcome.assert_completed()
        for check in checks:
            check()
        return _taken(outcome, first.qmp.first_answer - first.started, ahead.took)


def _boot(bed: TestBed, setting: Setting) -> Guest:
    if setting.data:
        supports()
    more = max(setting.disks, int(setting.load in WITH_DISK))
    return bed.boot(
        net=[Tap(vhost=setting.vhost, queues=setting.queues, index=n) for n in range(setting.nics)],
        disk=[bed.disk(index=n) for n in range(1 + more)],
        tools=setting.load in WITH_DISK,
        passthrough=_passthrough(setting),
        memory_mib=setting.memory,
        vcpus=setting.vcpus,
        memory="shm" if setting.mode == "cpr-reboot" else setting.backing,
    )


def _passthrough(setting: Setting) -> list[Assigned]:
    """The host devices of the guest."""
    found = [Assigned(role) for role in _ROLES[: setting.vfio]]
    found += [Assigned(further_ivshmem(setting.bar))] if setting.bar else []
    if setting.data:
        told = None if setting.migration == "auto" else setting.migration
        found += [Assigned("ivshmem", VFIO_BULK, told)]
    return found


def _contents(guest: Guest, setting: Setting) -> list[Callable[[], None]]:
    """Put something into the devices whose contents are to stay; what checks it afterwards."""
    checks: list[Callable[[], None]] = []
    if setting.data:
        checks.append(BulkState(guest, setting.data).check)
    for device in guest.passthrough:
        if setting.bar and device.role == further_ivshmem(setting.bar):
            memory = Ivshmem(guest, device)
            memory.exercise()
            checks.append(memory.exercise)
    return checks


def _fill(guest: Guest) -> None:
    """Have all memory of the guest allocated: pages that a guest never touched cost nothing."""
    file = os.open(memory_file(guest.machine.pid), os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, os.fstat(file).st_size)
    finally:
        os.close(file)


def _take_spare() -> None:
    """Take memory and give it back: what the target takes in the pause is then at the host's hand.

    A host that is a VM itself has its memory from another host, page by page as it is first touched: 64 MiB
    took 95 ms instead of 30 after a large guest had been filled (docs/performance.md).
    """
    mmap.mmap(-1, _SPARE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def _taken(outcome: Outcome, defer_ns: int, start_ns: int) -> Sample:
    timeline = outcome.timeline
    parts = breakdown(timeline.phases)
    figures = dict(timeline.downtime) | {"paused": sum(parts.values()) or None}
    figures |= {"start": start_ns or None, "defer": defer_ns}
    if "resume" in timeline.phases:
        figures["total"] = timeline.phases["resume"].end - outcome.target.started
    return Sample(
        {name: round(ns / 1000) for name, ns in figures.items() if ns is not None},
        {name: round(ns / 1000) for name, ns in parts.items()},
        {name: round(ns / 1000) for name, ns in steps(outcome.target, timeline.phases).items()},
    )
