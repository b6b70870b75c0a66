# SPDX-License-Identifier: GPL-2.0-or-later
"""Data at rest in guest memory and on the guest's disk, compared by hash across a transfer."""

from cprtest.errors import Damage
from cprtest.guest.guest import Guest
from cprtest.machine.devices import Disk


def _disk(guest: Guest) -> str | None:
    """What the guest calls its first disk."""
    return next((device.guest_name for device in guest.spec.devices if isinstance(device, Disk)), None)


class MemoryData:
    """A file of random data in the guest's RAM. size_mib: MiB."""

    def __init__(self, guest: Guest, size_mib: int = 8) -> None:
        self._guest = guest
        guest.run(f"dd if=/dev/urandom of=/run/pattern bs=1M count={size_mib} 2>/dev/null", seconds=30)
        self._hash = self._sum()

    def check(self) -> None:
        """Raises Damage if the data changed."""
        seen = self._sum()
        if seen != self._hash:
            raise Damage(f"guest memory: SHA-256 of the pattern is {seen}, was {self._hash}", "acquire")

    def _sum(self) -> str:
        return self._guest.run("sha256sum /run/pattern", seconds=30).split()[0]


class DiskData:
    """Random data written durably to the guest's first disk; each `check` reads it back and writes anew."""

    def __init__(self, guest: Guest, size_mib: int = 2) -> None:
        self._guest = guest
        self._disk = _disk(guest)
        self._blocks = f"bs=1M count={size_mib}"
        self._write()

    def check(self) -> None:
        """Raises AssertionError if what was written last is not what the disk holds; then writes new data."""
        seen = self._sum()
        if seen != self._hash:
            raise AssertionError(f"disk: SHA-256 of the data is {seen}, {self._hash} was written")
        self._write()

    def _write(self) -> None:
        self._guest.run(f"dd if=/dev/urandom of=/run/disk {self._blocks} 2>/dev/null", seconds=30)
        self._guest.run(
            f"dd if=/run/disk of={self._disk} {self._blocks} oflag=direct conv=fsync 2>/dev/null", seconds=30
        )
        self._hash = self._guest.run("sha256sum /run/disk", seconds=30).split()[0]

    def _sum(self) -> str:
        return self._guest.run(
            f"dd if={self._disk} {self._blocks} iflag=direct 2>/dev/null | sha256sum", seconds=30
        ).split()[0]


class SmallData:
    """A little random data in memory and, the same, on the first disk if there is one.

    One command a check, for many checks. disk: whether the first disk may be used.
    """

    def __init__(self, guest: Guest, *, disk: bool = True) -> None:
        self._guest = guest
        node = _disk(guest) if disk else None
        copy = f"dd if=/run/small of={node} bs=64k oflag=direct conv=fsync 2>/dev/null && " if node else ""
        self._write = (
            f"dd if=/dev/urandom of=/run/small bs=64k count=4 2>/dev/null && {copy}sha256sum </run/small"
        )
        read = f"dd if={node} bs=64k count=4 iflag=direct 2>/dev/null" if node else "cat /run/small"
        self._read = f"sha256sum </run/small && {read} | sha256sum"
        self._hash = guest.run(self._write).split()[0]

    def check(self) -> None:
        """Raises AssertionError if memory or disk do not hold what was written last; then writes anew."""
        memory, disk, written = self._guest.run(f"{self._read} && {self._write}").split("\n")
        for name, line in (("memory", memory), ("disk", disk)):
            if line.split()[0] != self._hash:
                raise AssertionError(f"guest {name}: SHA-256 is {line.split()[0]}, was {self._hash}")
        self._hash = written.split()[0]
