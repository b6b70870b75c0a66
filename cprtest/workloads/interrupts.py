# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts of a PCI device as the guest counts them, and the means to take them away."""

from cprtest.guest.guest import Guest
from cprtest.machine.devices import Passthrough

_MASK_ALL = 0x40  # in the upper byte of MSI-X's message control, PCI specification 7.7.2
_INTX_DISABLE = 0x04  # in the upper byte of the command register


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


def without_msi(guest: Guest, device: Passthrough) -> None:
    """Let the guest's driver begin anew, without MSI and MSI-X: the device has its INTx line only.

    The switch is that of the port it is plugged into (Documentation/ABI/testing/sysfs-bus-pci, msi_bus).
    """
    name = device.guest_path.rpartition("/")[2]
    guest.run(
        f"cd {device.guest_path} && driver=$(readlink -f driver) && echo {name} >$driver/unbind && "
        f"echo 0 >$(readlink -f {device.guest_path}/..)/msi_bus && echo {name} >$driver/bind",
        seconds=20,
    )


def mask(guest: Guest, device: Passthrough) -> None:
    """Take the device's interrupts away behind the driver's back: all MSI-X vectors masked, INTx disabled."""
    guest.run(
        f"config={device.guest_path}/config; {_SHELL} set_bits 5 {_INTX_DISABLE}; at=$(byte 52); "
        f"while [ $at != 0 ]; do [ $(byte $at) != 17 ] || set_bits $((at + 3)) {_MASK_ALL}; "
        "at=$(byte $((at + 1))); done"
    )


# Bytes of the configuration space: at 52 the first capability, then id and next of each; 17 is MSI-X.
_SHELL = """
byte() { echo $(od -An -tu1 -j$1 -N1 $config); }
set_bits() {
    printf "\\$(printf %03o $(($(byte $1) | $2)))" | dd of=$config bs=1 seek=$1 conv=notrunc 2>/dev/null
}
"""
