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
        f"cd {device.guest_path} && (ls msi_irqs 2>/dev/null || cat irq); cat /proc/interrupts"
    )
    lines = listed.splitlines()
    heads = {line.strip() for line in lines if line.strip().isdigit()}
    total = 0
    for line in lines:
        number, colon, rest = line.partition(":")
        if colon and number.strip() in heads:
            total += sum(int(word) for word in rest.split() if word.isdigit())
    return total
