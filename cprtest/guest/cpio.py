# SPDX-License-Identifier: GPL-2.0-or-later
"""An archive in cpio's "newc" form, which the kernel unpacks as its initial file system.

The format is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
Written here because cpio(1) is not installed everywhere and cannot make device nodes without root.
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file: type and permissions as in st_mode, contents (a symlink's target), device number."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def file(data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(stat.S_IFREG | mode, data)


def directory(mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(stat.S_IFDIR | mode)


def symlink(target: str) -> Entry:
    """A symbolic link to `target`."""
    return Entry(stat.S_IFLNK | 0o777, target.encode())


def character_device(major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device node."""
    return Entry(stat.S_IFCHR | mode, b"", (major, minor))


def with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The same entries in path order, with every missing parent directory in front of its children."""
    complete = dict(entries)
    for name in entries:
        for parent in list(PurePosixPath(name).parents)[:-1]:
            complete.setdefault(str(parent), directory())
    return dict(sorted(complete.items(), key=lambda item: PurePosixPath(item[0]).parts))


def write(stream: BinaryIO, entries: Mapping[str, Entry]) -> None:
    """Write `entries` (relative path -> entry) as an archive owned by root and dated 1970.

    The same entries always give the same bytes.
    """
    size = 0
    for chunk in _chunks(with_parents(entries)):
        size += len(chunk)
        stream.write(chunk)
    stream.write(bytes(-size % 512))


def _chunks(entries: Mapping[str, Entry]) -> Iterator[bytes]:
    for inode, (name, entry) in enumerate(entries.items(), start=1):
        yield _header(name, entry, inode)
        yield entry.data + bytes(-len(entry.data) % 4)
    yield _header(_TRAILER, Entry(0), 0)


def _header(name: str, entry: Entry, inode: int) -> bytes:
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        *(inode, entry.mode, 0, 0, links, 0, len(entry.data)),
        *(0, 0, *entry.device, len(path), 0),
    )
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + path
    return head + bytes(-len(head) % 4)
