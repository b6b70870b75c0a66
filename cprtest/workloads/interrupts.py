# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts of a PCI device as the guest counts them, and the means to take them away."""

import re

from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.host.interrupts import raised
from cprtest.limits import wait_until
from cprtest.machine.plugged import Passthrough
from cprtest.workloads.config_space import MSIX, ConfigSpace

_MASK_ALL = 0x40  # in the upper byte of MSI-X's message control, PCI specification 7.7.2
_INTX_DISABLE = 0x04  # in the upper byte of the command register
_VTEICS = 0x1520  # "cause set" of the Intel 82576's virtual functions, by datasheet
_ENTRY, _CONTROL = 16, 12  # an entry of MSI-X's table, and in it the word with the mask bit, 7.7.2.9


def count(guest: Guest, device: Passthrough) -> int:
    """Interrupts that `device` has raised in the guest so far, all its vectors together."""
    return sum(by_vector(guest, device).values())


def by_vector(guest: Guest, device: Passthrough) -> dict[str, int]:
    """The same for each vector by itself, under the name that its driver gave it. INTx is one vector.

    The device's MSI and MSI-X vectors are the names in msi_irqs/ (kernel: Documentation/ABI/testing/
    sysfs-bus-pci), else its INTx line is in irq.
    """
    return {line.split()[-1]: raised(line) for line in _lines(guest, device)}


def _lines(guest: Guest, device: Passthrough) -> list[str]:
    """The device's lines of /proc/interrupts; vectors that its driver does not use have none."""
    # One process: in an emulated lab a guest without KVM needs seconds to start one.
    command = f"cd {device.guest_path} && cat irq /proc/interrupts && echo msi_irqs/*"
    irq, *table, vectors = guest.run(command).splitlines()
    numbers = {name.partition("/")[2] for name in vectors.split()}
    if numbers == {"*"}:  # there is no such directory
        numbers = {irq.strip()}
    return [line for line in table if line.partition(":")[0].strip() in numbers]


def without_msi(guest: Guest, device: Passthrough) -> None:
    """Let the guest's driver begin anew, without MSI and MSI-X: the device has its INTx line only.

    The switch is that of the port it is plugged into (Documentation/ABI/testing/sysfs-bus-pci, msi_bus).
    Raises CprError when the driver has MSI all the same.
    """
    name = device.guest_path.rpartition("/")[2]
    bound = f"test -e {device.guest_path}/driver"
    wait_until(f"the guest's driver to take {device.id}", lambda: guest.succeeds(bound), 10)
    guest.run(
        f"cd {device.guest_path} && driver=$(readlink -f driver) && echo {name} >$driver/unbind && "
        f"echo 0 >$(readlink -f {device.guest_path}/..)/msi_bus && echo {name} >$driver/bind",
        seconds=20,
    )
    if guest.succeeds(f'test -n "$(ls {device.guest_path}/msi_irqs 2>/dev/null)"'):
        raise CprError(f"{device.id} has MSI in the guest, though its port was told to have none.")


def mask(guest: Guest, device: Passthrough) -> None:
    """Take the device's interrupts away behind the driver's back: all MSI-X vectors masked, INTx disabled."""
    space = ConfigSpace(guest, device)
    masked = {5: space.word(5, 1) | _INTX_DISABLE}
    masked |= {at + 3: space.word(at + 3, 1) | _MASK_ALL for at in space.capabilities(MSIX)}
    for offset, value in masked.items():
        guest.run(
            f"printf '\\{value:03o}' | dd of={device.guest_path}/config bs=1 seek={offset} conv=notrunc"
            " 2>/dev/null"
        )


def mask_vector(guest: Guest, device: Passthrough, name: str) -> None:
    """The same for one MSI-X vector alone, by its name: the mask bit of its entry in the table."""
    (line,) = (line for line in _lines(guest, device) if line.split()[-1] == name)
    (entry,) = re.findall(r" (\d+)-edge", line)
    space = ConfigSpace(guest, device)
    (at,) = space.capabilities(MSIX)
    where = space.word(at + 4, 4)  # the window in the lowest three bits
    address = space.bar(where & 7) + (where & ~7) + int(entry) * _ENTRY + _CONTROL
    guest.run(f"devmem {address:#x} 32 1")


def raise_unasked(guest: Guest, device: Passthrough, times: int) -> None:
    """Have an igb VF raise its first vector so often, though nothing has happened to it."""
    address = ConfigSpace(guest, device).bar(0) + _VTEICS
    guest.run(f"for n in $(seq {times}); do devmem {address:#x} 32 1; done", seconds=20)
