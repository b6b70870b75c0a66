# SPDX-License-Identifier: GPL-2.0-or-later
"""Corruption planted where a guest's data lies, to prove that a checker finds it, and finds it there."""

import os
from pathlib import Path

from cprtest.host.pci import PciDevice
from cprtest.machine.memory import located
from cprtest.machine.process import Machine

PAGE = 4096


def reset(address: str) -> None:
    """Reset a host's PCI device, whoever uses it; the kernel restores its configuration space. Root only."""
    (PciDevice(address).path / "reset").write_text("1")


def flip(image: Path, offset: int) -> None:
    """Invert the byte of a disk image at `offset`."""
    with image.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def read(image: Path, offset: int, size: int) -> bytes:
    """`size` bytes of a disk image at `offset`."""
    with image.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def write(image: Path, offset: int, data: bytes) -> None:
    """Overwrite a disk image at `offset` with `data`."""
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def poke(machine: Machine, address: int, data: bytes) -> None:
    """Overwrite what QEMU has at a guest-physical address, of RAM, ROM or a device. Raises CprError.

    A guest that may be writing there has to be stopped.
    """
    with located(machine, address) as (descriptor, offset):
        os.pwrite(descriptor, data, offset)


def page(machine: Machine, address: int) -> bytes:
    """The page that begins at a guest-physical address, as `poke` reaches it. Raises CprError."""
    with located(machine, address) as (descriptor, offset):
        return os.pread(descriptor, PAGE, offset)
