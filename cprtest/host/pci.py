# SPDX-License-Identifier: GPL-2.0-or-later
"""A PCI device as sysfs shows it (Documentation/ABI/testing/sysfs-bus-pci)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys")
VFIO_PCI = "vfio-pci"
VFIO_BULK = "vfio-bulk"
VFIO_DRIVERS = (VFIO_PCI, VFIO_BULK)
"""Drivers that give a device to user space: the kernel's, and a variant of ours (assets/vfio-bulk)."""
_BRIDGE = "0x06"
# With multipath the path (nvme0c1n2) belongs to the controller, the disk (nvme0n2) to the subsystem.
_NVME_PATH = re.compile(r"(nvme\d+)c\d+(n\d+)")


@dataclass(frozen=True)
class PciDevice:
    """One PCI function; `address` as in /sys/bus/pci/devices, `sysfs` where sysfs is mounted."""

    address: str
    sysfs: Path = SYSFS

    @property
    def path(self) -> Path:
        """Its directory on the PCI bus."""
        return self.sysfs / "bus/pci/devices" / self.address

    @property
    def driver(self) -> str | None:
        """The driver it is bound to."""
        return _link_name(self.path / "driver")

    @property
    def iommu_group(self) -> int | None:
        """The number of its IOMMU group; None without an IOMMU."""
        name = _link_name(self.path / "iommu_group")
        return None if name is None else int(name)

    @property
    def group_members(self) -> list["PciDevice"]:
        """All devices of its IOMMU group, itself included."""
        directory = self.path / "iommu_group/devices"
        names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        return [PciDevice(name, self.sysfs) for name in names]

    @property
    def largest_bar(self) -> int:
        """Bytes of its largest BAR; 0 for none."""
        lines = (self.path / "resource").read_text().splitlines()[:6]
        found = [[int(word, 16) for word in line.split()] for line in lines]
        return max((end - start + 1 for start, end, _ in found if end), default=0)

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge, a root port or another part of the bus itself (class 06)."""
        return (self.path / "class").read_text().startswith(_BRIDGE)

    @property
    def reset_methods(self) -> list[str]:
        """How the kernel can reset it, best first: flr, af_flr, pm, bus, device_specific, ..."""
        try:
            return (self.path / "reset_method").read_text().split()
        except OSError:
            return []

    @property
    def has_flr(self) -> bool:
        """Whether it can be reset without its neighbours and without losing its place on the bus."""
        return not {"flr", "af_flr"}.isdisjoint(self.reset_methods)

    @property
    def physical_function(self) -> "PciDevice | None":
        """The physical function that it is a virtual function of."""
        name = _link_name(self.path / "physfn")
        return None if name is None else PciDevice(name, self.sysfs)

    @property
    def interfaces(self) -> list[str]:
        """Names of its network interfaces, as far as they are in this network namespace."""
        return [path.name for path in self._below("net")]

    @property
    def disks(self) -> list[str]:
        """Names of its block devices, partitions included, and of what is stacked on them (dm, md)."""
        found: dict[str, None] = {}
        pending = [path.name for path in self._below("block")]
        while pending:
            name = pending.pop(0)
            if name in found:
                continue
            found[name] = None
            directory = self.sysfs / "class/block" / name
            pending += [path.parent.name for path in directory.glob("*/partition")]
            pending += [path.name for path in (directory / "holders").glob("*")]
            if multipath := _NVME_PATH.fullmatch(name):
                pending.append("".join(multipath.groups()))
        return [name for name in found if (self.sysfs / "class/block" / name).exists()]

    def _below(self, kind: str) -> Iterator[Path]:
        own = self.path.resolve()
        directory = self.sysfs / "class" / kind
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if own in path.resolve().parents:
                yield path


def _link_name(link: Path) -> str | None:
    return link.readlink().name if link.is_symlink() else None
