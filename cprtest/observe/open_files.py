# SPDX-License-Identifier: GPL-2.0-or-later
"""Which device and queue of the guest an open file of the kernel is, in whichever process it is open.

The kernel's probes tell the address of the open file description behind a descriptor. Source and target have
different descriptors for one file, and the same address: so a file that travelled needs no guessing. (kcmp(2)
answers the same question, but only while both processes live, and asks about two descriptors at a time.) What
device it is follows from the order in which a QEMU acquires its devices, which is that of its command line;
one that is opened anew under the old descriptor (dup2) stays what it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cprtest.machine.devices import queues
from cprtest.machine.plugged import Passthrough, Vsock

if TYPE_CHECKING:
    from cprtest.machine.devices import Device

KINDS = {
    "vhost-net": "/dev/vhost-net",
    "vhost-vsock": "/dev/vhost-vsock",
    "tap": "/dev/net/tun",
    "vfio": "/dev/vfio/vfio",
}
"""What a file is, and the special file it was opened by. vfio: the container of all passthrough devices."""


@dataclass
class OpenFile:
    """An open file description: small number, kind, and the device and queue that it serves."""

    number: int
    kind: str
    device: str = ""
    queue: int = 0

    def about(self) -> dict[str, Any]:
        """Its part of an event's data."""
        known: dict[str, Any] = {"device": self.device, "queue": self.queue} if self.device else {}
        return {**known, "file": self.number, "kind": self.kind}


@dataclass
class _Process:
    """What one QEMU has: the devices that wait for their file, by kind, and what each descriptor was last."""

    waiting: dict[str, list[tuple[str, int]]]
    descriptors: dict[int, OpenFile] = field(default_factory=dict)


class OpenFiles:
    """All open files that events spoke of."""

    def __init__(self) -> None:
        self._files: dict[str, OpenFile] = {}
        self._processes: dict[int, _Process] = {}
        self._count = 0
        self._kinds = device_numbers()

    def process(self, pid: int, devices: Sequence[Device]) -> None:
        """A QEMU with these devices has been started."""
        self._processes[pid] = _Process(
            {
                "vhost-net": queues(devices, vhost=True),
                "tap": queues(devices),
                "vhost-vsock": [(d.id, 0) for d in devices if isinstance(d, Vsock)],
                "vfio": [("vfio", 0)] if any(isinstance(d, Passthrough) for d in devices) else [],
            }
        )

    def find(self, address: str, rdev: int) -> OpenFile:
        """The file at a kernel `address`; `rdev` is its device number as the kernel keeps it."""
        kind = self._kinds.get(rdev, "")
        file = self._files.get(address)
        # The end of a file of no known kind is not seen: its address may be another's by now.
        if file is None or file.kind != kind:
            self._count += 1
            file = self._files[address] = OpenFile(self._count, kind)
        return file

    def used(self, address: str, rdev: int, pid: int, fd: int) -> tuple[OpenFile, dict[str, Any]]:
        """The file that process `pid` has just used by descriptor `fd`, named if it was not; an event's data.

        "taken_for" is in the data when the process takes the file for that of another queue.
        """
        file = self.find(address, rdev)
        process = self._processes.get(pid)
        before = process.descriptors.get(fd) if process else None
        if process is None or before is file:
            return file, file.about()
        process.descriptors[fd] = file
        if before is not None and before.kind == file.kind and before.device:
            place = (before.device, before.queue)
        elif waiting := process.waiting.get(file.kind):
            place = waiting.pop(0)
        else:
            return file, file.about()
        if not file.device:
            file.device, file.queue = place
        elif (file.device, file.queue) != place:
            return file, {**file.about(), "taken_for": f"{place[0]} queue {place[1]}"}
        return file, file.about()

    def opened(self, pid: int, fd: int, device: str) -> None:
        """Process `pid` was given a descriptor for the passthrough `device`, whose file was not seen yet."""
        if pid in self._processes:
            self._processes[pid].descriptors[fd] = OpenFile(0, "", device)

    def closed(self, address: str) -> OpenFile | None:
        """The last descriptor of the file is gone, its address may be given to another. None if not known."""
        return self._files.pop(address, None)


def device_numbers() -> dict[int, str]:
    """Kinds by device number in the kernel's own form (MKDEV in linux/kdev_t.h), of what this host has."""
    found = {}
    for kind, path in KINDS.items():
        try:
            number = Path(path).stat().st_rdev
        except OSError:
            continue
        found[os.major(number) << 20 | os.minor(number)] = kind
    return found
