# SPDX-License-Identifier: GPL-2.0-or-later
"""A PCI device's configuration space as the guest reads it, and where the device's windows are.

Sources: PCI Local Bus specification 3.0, chapter 6 (header, capabilities, MSI-X); pci_regs.h of the kernel.
"""

from collections.abc import Iterator

from cprtest.guest.guest import Guest
from cprtest.machine.plugged import Passthrough

PCI_EXPRESS = 0x10
MSIX = 0x11
VENDOR = 0x09

_FIRST_CAPABILITY = 0x34
_STATUS = 0x06
_HAS_CAPABILITIES = 0x10


class ConfigSpace:
    """The first 256 bytes, as they were when this was made."""

    def __init__(self, guest: Guest, device: Passthrough) -> None:
        listed = guest.run(
            f"od -An -v -tx1 -N256 {device.guest_path}/config && cat {device.guest_path}/resource"
        )
        words = listed.split()
        self._bytes = bytes(int(word, 16) for word in words[:256])
        self._windows = [int(word, 16) for word in words[256::3]]

    def word(self, offset: int, size: int = 2) -> int:
        """`size` bytes at `offset`, as a number."""
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def capabilities(self, wanted: int) -> Iterator[int]:
        """Offsets of the capabilities with this id."""
        at = self._bytes[_FIRST_CAPABILITY] if self.word(_STATUS) & _HAS_CAPABILITIES else 0
        while at:
            if self._bytes[at] == wanted:
                yield at
            at = self._bytes[at + 1]

    def bar(self, number: int) -> int:
        """The guest-physical address of a window; 0 for none."""
        return self._windows[number]
