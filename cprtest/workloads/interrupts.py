# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts of a PCI device as the guest counts them."""

from cprtest.guest.guest import Guest
from cprtest.machine.devices import Passthrough


def count(guest: Guest, device: Passthrough) -> int:
    """Interrupts that `device` has raised in the guest so far, all its vectors together.

    The device's MSI and MSI-X vectors are the names in msi_irqs/ (kernel: Documentation/ABI/testing/
    sysfs-bus-pci), else its INTx line is in irq.
    """
    listed = guest.run(
        f"cd {device.guest_path} && for n in $(ls msi_irqs 2>/dev/null || cat irq); do "
        'grep -E "^ *$n:" /proc/interrupts; done'
    )
    words = [line.partition(":")[2].split() for line in listed.splitlines()]
    return sum(int(word) for line in words for word in line if word.isdigit())
