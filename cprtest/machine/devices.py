# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices a guest can have. Each knows its own part of QEMU's command line.

A device has a back end (host side: -netdev, -blockdev) that is made anew in every QEMU, and a
front end (guest side: -device) that has to be the same on source and target.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from cprtest.host.network import Network

# The guest's side of NIC n has this MAC; its init gives it 10.99.n.2/24 (assets/guest/init).
MAC = "52:54:00:63:70:{:02x}"
GUEST_ADDRESS = "10.99.{}.2"
HOST_ADDRESS = "10.99.{}.1"


# Properties of virtio-net-pci, in every release since 10.0.
_OFFLOADS = (
    *("csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "host_uso"),
    *("guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo", "guest_uso4", "guest_uso6"),
)


class Device(Protocol):
    """What the command line needs to know of a device."""

    @property
    def id(self) -> str:
        """QEMU's id of the device, and the name it has in events and reports."""

    def backend(self) -> list[str]:
        """Command-line options of the host side; may differ between source and target."""

    def frontend(self) -> dict[str, Any] | None:
        """The -device properties, or None where the device is all back end."""


def option(name: str, value: dict[str, Any]) -> list[str]:
    """One option in QEMU's JSON form, which needs no quoting of commas."""
    return [name, json.dumps(value)]


@dataclass(frozen=True, kw_only=True)
class Nic(ABC):
    """A virtio-net NIC, number `index` of the guest. queues: queue pairs that the guest sees."""

    queues: int = 1
    index: int = 0

    @property
    def id(self) -> str:
        return f"net{self.index}"

    @property
    def netdev(self) -> str:
        """QEMU's id of the host side."""
        return f"{self.id}-backend"

    @property
    def netdev_queues(self) -> int:
        """Queue pairs that the back end opens, in each QEMU."""
        return self.queues

    lasting = True
    """Connections through it go on after a transfer."""

    def preserved(self, cpr: bool) -> Self:  # noqa: ARG002
        """The NIC for a QEMU that can preserve a tap's descriptors, or can not."""
        return self

    @abstractmethod
    def on_host(self, network: Network) -> Self:
        """Make what a QEMU that is going to be started needs; the NIC with what that gave.

        What the guest's QEMUs have in common `network` makes once.
        """

    def reached(self, port: int) -> tuple[str, int]:
        """The address and port at which the test's network reaches a port of the guest."""
        return GUEST_ADDRESS.format(self.index), port

    @abstractmethod
    def backend(self) -> list[str]:
        """As in Device."""

    @property
    def inherited(self) -> tuple[int, ...]:
        """Descriptors of ours that QEMU inherits for it."""
        return ()

    def frontend(self) -> dict[str, Any]:
        multi_queue = {"mq": True, "vectors": 2 * self.queues + 2} if self.queues > 1 else {}
        return {
            "driver": "virtio-net-pci",
            "id": self.id,
            "netdev": self.netdev,
            "mac": MAC.format(self.index),
            **multi_queue,
        }


TUN = "/dev/net/tun"


@dataclass(frozen=True, kw_only=True)
class Tap(Nic):
    """A NIC on a tap that QEMU opens by name in the test's network namespace.

    cpr: its descriptors travel to the target; `preserved` says so for a QEMU that can do it. Released QEMU
    preserves no tap descriptor: the target opens queues of its own, which the kernel allows only on a
    multi-queue tap. So without cpr the netdev asks for 2 queues at least. down_script: a program that QEMU
    runs when it gives the tap up. offloads: checksums and segmentation may be left to the other side.
    """

    vhost: bool = True
    cpr: bool = False
    down_script: Path | None = None
    offloads: bool = True

    @property
    def ifname(self) -> str:
        """The interface's name inside the test's network namespace."""
        return f"tap{self.index}"

    @property
    def node(self) -> str:
        """The file that QEMU opens its queues from; empty where it does not open them itself."""
        return TUN

    @property
    def netdev_queues(self) -> int:
        return self.queues if self.cpr else max(2, self.queues)

    def preserved(self, cpr: bool) -> Self:
        return replace(self, cpr=cpr)

    def on_host(self, network: Network) -> Self:
        address = f"{HOST_ADDRESS.format(self.index)}/24"
        network.tap(self.ifname, queues=self.netdev_queues, address=address)
        return self

    def backend(self) -> list[str]:
        return option(
            "-netdev",
            {
                "type": "tap",
                "id": self.netdev,
                **self._opened(),
                "vhost": self.vhost,
                **({"cpr": True} if self.cpr else {}),
            },
        )

    def frontend(self) -> dict[str, Any]:
        switched_off = {} if self.offloads else dict.fromkeys(_OFFLOADS, False)
        return {**super().frontend(), **switched_off}

    def _opened(self) -> dict[str, Any]:
        """How QEMU comes by the queues."""
        scripts = {"script": "no", "downscript": str(self.down_script or "no")}
        return {"ifname": self.ifname, **scripts, "queues": self.netdev_queues}


def queues(devices: Iterable[Device], *, vhost: bool = False) -> list[tuple[str, int]]:
    """Device and number of each queue pair that QEMU opens from /dev/net/tun, in the order in which it does.

    vhost: those that kernel vhost serves instead, each opened from /dev/vhost-net.
    """
    taps = [device for device in devices if isinstance(device, Tap)]
    wanted = [tap for tap in taps if (tap.vhost if vhost else tap.node == TUN)]
    return [(tap.id, queue) for tap in wanted for queue in range(tap.netdev_queues)]


@dataclass(frozen=True)
class Disk:
    """A disk. The image is the test's own file.

    bus: virtio-blk or virtio-scsi; iothread: it has a thread of its own; aio: threads, native or io_uring.
    discard: what the guest discards is given back, down to the host's file system; else QEMU ignores it.
    """

    image: Path
    format: str = "raw"
    index: int = 0
    bus: str = "virtio-blk"
    iothread: bool = False
    aio: str = "threads"
    discard: bool = False

    @property
    def id(self) -> str:
        return f"disk{self.index}"

    @property
    def guest_name(self) -> str:
        """What the guest calls it, if its disks are all on one bus, with indexes from 0 on."""
        return f"/dev/{'sd' if self.bus == 'virtio-scsi' else 'vd'}{'abcdefgh'[self.index]}"

    def backend(self) -> list[str]:
        # native needs O_DIRECT.
        cache = {"direct": self.aio == "native"}
        discard = {"discard": "unmap" if self.discard else "ignore"}
        file = {"driver": "file", "node-name": f"{self.id}-file", "filename": str(self.image), **discard}
        node = {"driver": self.format, "node-name": f"{self.id}-node", "file": file["node-name"], **discard}
        options = option("-blockdev", {**file, "aio": self.aio, "cache": cache}) + option("-blockdev", node)
        if self.iothread:
            options += option("-object", {"qom-type": "iothread", "id": f"{self.id}-thread"})
        if self.bus == "virtio-scsi":
            controller = {"driver": "virtio-scsi-pci", "id": f"{self.id}-bus", **self._thread()}
            options += option("-device", controller)
        return options

    def frontend(self) -> dict[str, Any]:
        disk = {"id": self.id, "drive": f"{self.id}-node", "serial": self.id}
        if self.bus == "virtio-scsi":
            return {"driver": "scsi-hd", "bus": f"{self.id}-bus.0", **disk}
        return {"driver": "virtio-blk-pci", **disk, **self._thread()}

    def _thread(self) -> dict[str, Any]:
        return {"iothread": f"{self.id}-thread"} if self.iothread else {}


@dataclass(frozen=True)
class ToolsDisk:
    """The guest's tools (cprtest.guest.tools) on a read-only virtio-blk disk, shared by all QEMUs."""

    image: Path

    @property
    def id(self) -> str:
        return "tools"

    def backend(self) -> list[str]:
        file = {"driver": "file", "filename": str(self.image)}
        return option(
            "-blockdev", {"driver": "raw", "node-name": "tools-node", "read-only": True, "file": file}
        )

    def frontend(self) -> dict[str, Any]:
        # The guest finds it by its serial number.
        return {"driver": "virtio-blk-pci", "id": self.id, "drive": "tools-node", "serial": "tools"}


@dataclass(frozen=True)
class Vga:
    """A VGA card with 16 MiB of memory of its own, which is not the guest's RAM (aux-ram-share)."""

    @property
    def id(self) -> str:
        return "vga0"

    def backend(self) -> list[str]:
        return []

    def frontend(self) -> dict[str, Any]:
        return {"driver": "VGA", "id": self.id, "vgamem_mb": 16}
