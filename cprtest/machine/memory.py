# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that is a guest's memory, as /proc shows it, and where in it a byte is. Reading it stops nobody.

The file travels with the guest: what is found with the source holds on every target.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cprtest.errors import CprError
from cprtest.machine.process import Machine

_FILES = ("/memfd:", "/dev/shm/")
_HOST_ADDRESS = re.compile(r" is 0x([0-9a-f]+)")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ (\d+)")


def memory_file(pid: int) -> Path:
    """The largest memory file that QEMU `pid` has open: its guest's. Raises CprError when there is none."""
    sizes: dict[Path, int] = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(link.readlink()).startswith(_FILES):
                sizes[link] = link.stat().st_size
        except OSError:  # closed meanwhile
            continue
    if not sizes:
        raise CprError(f"QEMU {pid} has no descriptor of its guest's memory.")
    return max(sizes, key=lambda link: sizes[link])


@contextlib.contextmanager
def located(machine: Machine, address: int) -> Iterator[tuple[int, int]]:
    """What `locate` returns, the descriptor closed when the block ends. Raises CprError as it does."""
    descriptor, offset = locate(machine, address)
    try:
        yield descriptor, offset
    finally:
        os.close(descriptor)


def locate(machine: Machine, address: int) -> tuple[int, int]:
    """(descriptor, offset) of guest-physical `address`: a new descriptor of the file, the caller's to close.

    QEMU itself tells where it has mapped the address (HMP gpa2hva), so nothing is assumed about how a
    machine type lays its memory out (the hole below 4 GiB). Raises CprError for what is not in a file.
    """
    words = f"gpa2hva {address:#x}"
    answer = machine.qmp.command("human-monitor-command", command_line=words)
    found = _HOST_ADDRESS.search(answer)
    if found is None:
        raise CprError(f"{machine.actor}: {words}: {answer.strip()}")
    mapped = int(found[1], 16)
    for line in Path(f"/proc/{machine.pid}/maps").read_text().splitlines():
        match = _MAPPING.match(line)
        assert match is not None, f"/proc/PID/maps has another form: {line}"
        start, end, offset, inode = int(match[1], 16), int(match[2], 16), int(match[3], 16), int(match[4])
        if start <= mapped < end:
            return _open(machine.pid, inode, line), mapped - start + offset
    raise CprError(f"{machine.actor}: {words}: nothing is mapped at {mapped:#x}")


def _open(pid: int, inode: int, line: str) -> int:
    """Open the file with that inode, one that process `pid` has open, for reading and writing."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if inode and entry.stat().st_ino == inode and str(entry.readlink()).startswith(_FILES):
                return os.open(entry, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # closed meanwhile
            continue
    raise CprError(f"guest memory is in no file that QEMU shares: {line}")
