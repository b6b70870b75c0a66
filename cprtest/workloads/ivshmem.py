# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory BAR of an ivshmem passthrough device, and a register, keep their contents and stay writable.

Sources of registers: docs/specs/ivshmem-spec.rst of QEMU.
"""

import random

from cprtest.guest.guest import Guest
from cprtest.machine.plugged import Passthrough

# Words spread over the BAR, its first and last included: a BAR that is mapped in part is found.
_WORDS = 24


class Ivshmem:
    """Writes random words over the BAR with each `exercise`, and verifies those of the one before."""

    def __init__(self, guest: Guest, device: Passthrough) -> None:
        self._guest = guest
        self._device = device
        guest.run(f"echo 1 > {device.guest_path}/enable")
        lines = guest.run(f"cat {device.guest_path}/resource").splitlines()
        registers = int(lines[0].split()[0], 16)
        start, end, _ = (int(word, 16) for word in lines[2].split())
        self.size = end - start + 1
        if start == 0:
            raise AssertionError(f"{device.id}: BAR 2 has no address in the guest")
        step = (self.size - 4) // (_WORDS - 1) & ~3
        self._addresses = [start + n * step for n in range(_WORDS - 1)] + [end - 3]
        # The interrupt mask, in BAR 0: a reset of the device clears it.
        self._addresses.append(registers)
        self._pattern: dict[int, int] = {}

    def exercise(self) -> None:
        """Raises AssertionError when a word is not what was written last."""
        if self._pattern:
            self._verify("before the transfer")
        self._pattern = {address: random.getrandbits(32) for address in self._addresses}
        self._guest.run(" && ".join(f"devmem {a:#x} 32 {v:#x}" for a, v in self._pattern.items()))
        self._verify("just now")

    def _verify(self, when: str) -> None:
        read = self._guest.run(" && ".join(f"devmem {address:#x} 32" for address in self._pattern))
        for (address, value), seen in zip(self._pattern.items(), read.split(), strict=True):
            if int(seen, 16) != value:
                raise AssertionError(
                    f"{self._device.id}: {address:#x} reads {int(seen, 16):#x}, {value:#x} was written {when}"
                )
