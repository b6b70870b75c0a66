# SPDX-License-Identifier: GPL-2.0-or-later
"""A passthrough device that the guest has no use for: it is there, the same, and answers."""

from cprtest.guest.guest import Guest
from cprtest.machine.plugged import Passthrough

# What a device is and where its windows are: identity, command, class, base addresses (PCI, type 0 header).
# Interrupt line, status and latency may change while it works.
_HEADER = "dd if={path}/config bs=1 count=64 2>/dev/null | od -An -v -tx1"
_STABLE = (slice(0, 6), slice(8, 12), slice(14, 60))


class Presence:
    """Reads the device's configuration space, and compares it with the round before."""

    def __init__(self, guest: Guest, device: Passthrough) -> None:
        self._guest = guest
        self._device = device
        self._before: list[str] = []

    def exercise(self) -> None:
        """Raises AssertionError unless the device answers, and as before."""
        header = self._guest.run(_HEADER.format(path=self._device.guest_path)).split()
        if len(header) != 64 or set(header) == {"ff"}:
            raise AssertionError(
                f"{self._device.id}: no device answers where it was; it reads {' '.join(header)}"
            )
        stable = [byte for part in _STABLE for byte in header[part]]
        if self._before and stable != self._before:
            raise AssertionError(
                f"{self._device.id}: its header was {' '.join(self._before)} and is {' '.join(stable)}"
            )
        self._before = stable
