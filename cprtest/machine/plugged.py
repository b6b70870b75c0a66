# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that are plugged into the running guest: passthrough, vhost-vsock. No saved state can hold them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest.machine.devices import option
from cprtest.machine.ports import root_port


@dataclass(frozen=True)
class Plugged(ABC):
    """A device that is plugged into the running guest, because no saved state can hold it.

    It sits in the root port `slot`; the target has it on its command line in the same place.
    """

    slot: int

    @property
    @abstractmethod
    def id(self) -> str:
        """As in Device."""

    @abstractmethod
    def frontend(self) -> dict[str, Any]:
        """As in Device."""

    @property
    def guest_path(self) -> str:
        """The device's directory in the guest's sysfs: root port n leads to bus n + 1."""
        return f"/sys/bus/pci/devices/0000:{self.slot + 1:02x}:00.0"

    @property
    def ready(self) -> str:
        """A command that succeeds in the guest as soon as it has the device."""
        return f"test -e {self.guest_path}"

    def backend(self) -> list[str]:
        return []


class PluggedVirtio(Plugged):
    """A virtio device. The guest has it when its driver wrote DRIVER_OK (virtio 1.2, 2.1): vhost runs."""

    @property
    def ready(self) -> str:
        return f"grep -q f$ {self.guest_path}/virtio*/status"


@dataclass(frozen=True)
class Vsock(PluggedVirtio):
    """A vhost-vsock device: QEMU opens /dev/vhost-vsock itself. `cid` is unique on the host."""

    cid: int

    @property
    def id(self) -> str:
        return "vsock0"

    def frontend(self) -> dict[str, Any]:
        return {
            "driver": "vhost-vsock-pci",
            "id": self.id,
            "guest-cid": self.cid,
            "bus": root_port(self.slot),
        }


@dataclass(frozen=True)
class Assigned:
    """What a guest is to be given: a host device by its role in the host file, or its address, and how.

    driver: vfio-pci, or vfio-bulk, which can migrate the device's state. migration: QEMU's
    enable-migration, on or off; its own default is auto.
    """

    role: str
    driver: str = "vfio-pci"
    migration: str | None = None


@dataclass(frozen=True)
class Passthrough(Plugged):
    """A host PCI device that the guest is given as `how` says, by a VFIO driver. `address`: on the host.

    `number`: how many devices of the same role the guest has before this one.
    """

    how: Assigned
    address: str
    iommufd: bool = False
    number: int = 0

    @property
    def role(self) -> str:
        """Its name in the host file."""
        return self.how.role

    @property
    def id(self) -> str:
        return f"vfio-{self.role}" + (f"-{self.number}" if self.number else "")

    def frontend(self) -> dict[str, Any]:
        migration = {} if self.how.migration is None else {"enable-migration": self.how.migration}
        through = {"iommufd": Iommufd.id} if self.iommufd else {}
        host = {"driver": "vfio-pci", "id": self.id, "host": self.address}
        return {**host, "bus": root_port(self.slot), **through, **migration}


@dataclass(frozen=True)
class Iommufd:
    """QEMU's object for /dev/iommu, which passthrough devices share."""

    id = "iommufd0"

    def backend(self) -> list[str]:
        return option("-object", {"qom-type": "iommufd", "id": self.id})

    def frontend(self) -> None:
        return None


@dataclass(frozen=True)
class Mediated(Plugged):
    """A mediated device (cprtest.host.mdev). `sysfs`: its directory there."""

    sysfs: Path

    @property
    def id(self) -> str:
        return "mdev"

    def frontend(self) -> dict[str, Any]:
        return {"driver": "vfio-pci", "id": self.id, "sysfsdev": str(self.sysfs), "bus": root_port(self.slot)}
