# SPDX-License-Identifier: GPL-2.0-or-later
"""Partitions of a guest's disk, so that two workloads share it without sharing a byte."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cprtest.guest.guest import Guest
from cprtest.limits import wait_until
from cprtest.machine.devices import Disk

# The table in a PC's boot sector, as Linux reads it (block/partitions/msdos.c): four entries, a signature.
_TABLE = 446
_ENTRY = struct.Struct("<B3xB3xII")
_LINUX = 0x83
_SIGNATURE = b"\x55\xaa"
_SECTOR = 512
_MIB = 1 << 20


@dataclass(frozen=True)
class Part:
    """Bytes of a disk. name: what the guest calls them; start, size: in bytes, of the disk."""

    name: str
    start: int
    size: int


def whole(guest: Guest, disk: Disk) -> Part:
    """All of the disk."""
    node = disk.guest_name.rpartition("/")[2]
    return Part(disk.guest_name, 0, int(guest.run(f"cat /sys/block/{node}/size")) * _SECTOR)


def divide(guest: Guest, disk: Disk, sizes_mib: Sequence[int]) -> list[Part]:
    """Give the disk up to four partitions of these sizes, one after the other. Its first MiB is not used."""
    name = disk.guest_name
    starts = [1 + sum(sizes_mib[:n]) for n in range(len(sizes_mib))]
    parts = [
        Part(f"{name}{n}", start * _MIB, size * _MIB)
        for n, (start, size) in enumerate(zip(starts, sizes_mib, strict=True), 1)
    ]
    entries = b"".join(_ENTRY.pack(0, _LINUX, p.start // _SECTOR, p.size // _SECTOR) for p in parts)
    table = entries.ljust(4 * _ENTRY.size, b"\0") + _SIGNATURE
    escaped = "".join(f"\\{byte:03o}" for byte in table)
    guest.run(
        f"printf '{escaped}' | dd of={name} bs=1 seek={_TABLE} conv=fsync 2>/dev/null && "
        f"blockdev --rereadpt {name}"
    )
    wait_until(f"the guest to see {parts[-1].name}", lambda: guest.succeeds(f"test -b {parts[-1].name}"), 10)
    return parts
