# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest is made of, and QEMU's command line for it.

The spec is the same on source and target; only descriptors and the incoming side differ.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cprtest.machine.boards import Board, board
from cprtest.machine.devices import Device, Nic, option
from cprtest.machine.plugged import Plugged
from cprtest.machine.ports import RootPorts
from cprtest.provision.installed import family

_PORTS = RootPorts()
# What libvirt gives every QEMU (seccomp_sandbox of its qemu.conf).
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class Image:
    """The guest's kernel, initial RAM disk and kernel arguments."""

    kernel: Path
    initrd: Path
    arguments: str
    ident: str


@dataclass(frozen=True)
class GuestSpec:
    """One guest. `accel`: kvm or tcg. `memory_mib`: guest RAM, in a file that travels.

    `memory`: that file is a memfd, a memfd of 2 MiB pages (hugepages), or the file of this path.
    `machine`: one of boards.BOARDS, also with a version. `boots`: kernel and initial RAM disk are loaded; a
    target needs neither, but QEMU loads what is on the command line. `sandbox`: QEMU may not do what libvirt
    keeps it from. `ports`: for what is plugged into it.
    """

    image: Image
    accel: str
    memory_mib: int = 256
    vcpus: int = 1
    devices: tuple[Device, ...] = ()
    memory: str = "memfd"
    machine: str = "q35"
    boots: bool = True
    sandbox: bool = False
    ports: RootPorts = _PORTS

    @property
    def bus(self) -> str:
        """QEMU's name of the machine's first PCI bus."""
        return self._board.bus

    @property
    def descriptors(self) -> list[int]:
        """Descriptors of ours that QEMU inherits for its devices."""
        return [fd for device in self.devices if isinstance(device, Nic) for fd in device.inherited]

    @property
    def _board(self) -> Board:
        return board(self.machine)

    def with_devices(self, *devices: Device) -> "GuestSpec":
        """The same guest with more devices."""
        return replace(self, devices=(*self.devices, *devices))

    def without(self, device: Device) -> "GuestSpec":
        """The same guest without a device that was unplugged."""
        return replace(self, devices=tuple(d for d in self.devices if d.id != device.id))

    @property
    def savable(self) -> "GuestSpec":
        """The same guest without the devices that no saved state can hold."""
        held = (d for d in self.devices if not isinstance(d, Plugged) and d.frontend() is not None)
        return replace(self, devices=tuple(held))

    def command_line(self) -> list[str]:
        """Arguments of QEMU for this guest, without program name, monitors and incoming channels."""
        arguments = [
            *("-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
            *("-accel", self.accel, "-cpu", "host" if self.accel == "kvm" else "max"),
            *("-smp", str(self.vcpus), "-m", str(self.memory_mib)),
            *option("-object", self._memory_backend()),
            # aux-ram-share: VGA, ROMs and the like travel by descriptor as well (needed by cpr-transfer).
            *("-machine", f"{self.machine},memory-backend=ram0,aux-ram-share=on,{self._board.options}"),
            *(self._boot() if self.boots else ()),
            *(("-sandbox", _SANDBOX) if self.sandbox else ()),
        ]
        for port in self._root_ports():
            arguments += option("-device", port)
        for device in self.devices:
            arguments += device.backend()
            frontend = device.frontend()
            if frontend is not None:
                arguments += option("-device", frontend)
        return arguments

    def shape(self, qemu: Path) -> str:
        """A key of everything the guest and its saved state depend on, `qemu`'s identity included."""
        stat = qemu.stat()
        identity: dict[str, Any] = {
            "qemu": family(qemu) or [str(qemu), stat.st_size, stat.st_mtime_ns],
            "image": self.image.ident,
            "arguments": self.image.arguments,
            "machine": [self.machine, self.accel, self.memory_mib, self.vcpus, self._root_ports()],
            "cpu": _cpu_model() if self.accel == "kvm" else "max",
            # A NIC's state holds the number of queues, which its back end sets.
            "devices": [
                (type(d).__name__, d.frontend(), getattr(d, "netdev_queues", 0)) for d in self.savable.devices
            ],
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _boot(self) -> list[str]:
        image = self.image
        kernel = ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
        return [*kernel, "-append", image.arguments]

    def _memory_backend(self) -> dict[str, Any]:
        backend: dict[str, Any] = {"id": "ram0", "size": self.memory_mib << 20, "share": True}
        if self.memory.startswith("/"):
            return {"qom-type": "memory-backend-file", "mem-path": self.memory, **backend}
        huge = {"hugetlb": True, "hugetlbsize": 2 << 20} if self.memory == "hugepages" else {}
        return {"qom-type": "memory-backend-memfd", **huge, **backend}

    def _root_ports(self) -> list[dict[str, Any]]:
        return self.ports.options() if self._board.plugs else []


def _cpu_model() -> str:
    """Model and flags of the host's CPU: what a KVM guest with -cpu host sees."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    return "|".join(line for line in lines if line.split("\t")[0].strip() in wanted)[:8192]


def channel(kind: str, address: dict[str, str]) -> dict[str, Any]:
    """A migration channel in QAPI's form: `kind` is main or cpr, `address` a SocketAddress."""
    return {"channel-type": kind, "addr": {"transport": "socket", **address}}


def incoming(channels: Sequence[dict[str, Any]]) -> list[str]:
    """The -incoming options of a target that waits on `channels`."""
    return [word for entry in channels for word in option("-incoming", entry)]
