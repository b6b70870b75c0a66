# SPDX-License-Identifier: GPL-2.0-or-later
"""An NVMe passthrough device: data written by DMA is read back by DMA, completions interrupt."""

from cprtest.guest.guest import Guest
from cprtest.machine.plugged import Passthrough
from cprtest.workloads import interrupts
from cprtest.workloads.reads import block_device


class Nvme:
    """Writes a fresh pattern with each `exercise`, and verifies that the one before is still there."""

    def __init__(self, guest: Guest, device: Passthrough) -> None:
        self._guest = guest
        self._device = device
        self._rounds = 0
        self._node = block_device(guest, device)

    def exercise(self) -> None:
        """Raises AssertionError unless data moved both ways by DMA and interrupts came."""
        before = interrupts.count(self._guest, self._device)
        if self._rounds:
            self._verify("written before the transfer")
        self._rounds += 1
        size = "bs=4k count=16"
        self._guest.run(
            f"dd if=/dev/urandom of=/run/nvme {size} 2>/dev/null && "
            f"dd if=/run/nvme of=/dev/{self._node} {size} oflag=direct conv=fsync 2>/dev/null"
        )
        self._verify("just written")
        raised = interrupts.count(self._guest, self._device) - before
        if raised <= 0:
            raise AssertionError(f"{self._device.id}: I/O was done without a single interrupt")

    def _verify(self, what: str) -> None:
        read = f"dd if=/dev/{self._node} bs=4k count=16 iflag=direct 2>/dev/null"
        if not self._guest.succeeds(f"{read} | cmp - /run/nvme"):
            raise AssertionError(f"{self._device.id}: data {what} is not what is read back")
