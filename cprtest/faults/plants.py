# SPDX-License-Identifier: GPL-2.0-or-later
"""Corruption planted where a guest's data lies, to prove that a checker finds it, and finds it there."""

import os
from pathlib import Path

from cprtest.host.pci import PciDevice
from cprtest.machine.memory import locate, memory_file
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
    """Overwrite what QEMU has at a guest-physical address, of RAM, ROM or a device. Raises CprError."""
    descriptor, offset = locate(machine, address)
    try:
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


class GuestMemory:
    """The file that is the RAM of the guest of QEMU `pid`; stop the guest before poking it.

    Offsets are guest-physical addresses, as long as these are below the hole for PCI (2 GiB on q35).
    Raises CprError where there is none.
    """

    def __init__(self, pid: int) -> None:
        self._path = memory_file(pid)

    def page(self, address: int) -> bytes:
        """The page at a guest-physical address."""
        return read(self._path, address & -PAGE, PAGE)

    def poke(self, address: int, data: bytes) -> None:
        """Overwrite what is at a guest-physical address."""
        write(self._path, address, data)

    def find(self, data: bytes, step: int = PAGE) -> list[int]:
        """Addresses, multiples of `step`, at which `data` stands."""
        with self._path.open("rb") as file:
            memory = file.read()
        return [at for at in range(0, len(memory), step) if memory.startswith(data, at)]
