# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's PCIe root ports: for devices that are plugged into a running guest (plugged.py)."""

from dataclasses import dataclass
from typing import Any, Self

_COUNT = 6
# Six windows together have to fit below 4 GiB: with a little more, SeaBIOS puts them at the end of a 40-bit
# address space, which QEMU reserves on AMD CPUs (HyperTransport), and the guest uses none of it. Windows of
# gigabytes begin far below that end, and are used.
_WINDOW, _LARGE_WINDOW = 128 << 20, 8 << 30


@dataclass(frozen=True)
class RootPorts:
    """So many ports. `window`: bytes that each reserves for the BARs of what is plugged into it."""

    count: int = _COUNT
    window: int = _WINDOW

    @classmethod
    def fitting(cls, devices: int, largest_bar: int) -> Self:
        """For so many devices. largest_bar: bytes; a device may have other BARs besides."""
        small = devices <= _COUNT and 2 * largest_bar <= _WINDOW
        return cls(max(devices, _COUNT), _WINDOW if small else _LARGE_WINDOW)

    def options(self) -> list[dict[str, Any]]:
        """Devices for the command line, in fixed slots so that they are the same whatever else there is.

        The firmware gives an empty port an address window of 2 MiB, too small for the memory BAR of a
        device that is plugged in later, unless told to reserve more (docs/pcie_pci_bridge.txt of QEMU).
        """
        return [
            {
                "driver": "pcie-root-port",
                "id": root_port(slot),
                "chassis": slot + 1,
                "bus": "pcie.0",
                "addr": f"{0x10 + slot:x}.0",
                "pref64-reserve": self.window,
            }
            for slot in range(self.count)
        ]


def root_port(slot: int) -> str:
    """QEMU's id of the guest's PCIe root port number `slot`, also the name of its bus."""
    return f"port{slot}"
