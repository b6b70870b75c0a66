# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools disk: programs that are too big for the guest's RAM, on a read-only disk.

Debian's fio alone loads 60 libraries. The disk has a loader and a C library of its own, so that its programs
depend on nothing in the initial RAM disk. The guest's command `use-tools` (assets/guest/use-tools) mounts it.
"""

import subprocess
import tempfile
from pathlib import Path

from cprtest.guest import GuestError, cpio
from cprtest.guest.tree import Tree
from cprtest.host.programs import program

PACKAGES = ("fio", "tcpdump")  # and all they depend on
PROGRAMS = ("usr/bin/fio", "usr/bin/tcpdump")

# The same contents give the same bytes. Not compressed: docs/guest.md has the figures.
OPTIONS = ("-T0", "--all-root", "-U", "00000000-0000-0000-0000-000000000000")


def contents(tree: Tree) -> dict[str, cpio.Entry]:
    """Everything on the disk: programs in bin, their libraries and the loader in lib.

    tree: the unpacked packages.
    """
    programs = {f"bin/{Path(name).name}": cpio.file(tree.read(name), 0o755) for name in PROGRAMS}
    libraries = {
        f"lib/{Path(name).name}": cpio.file(path.read_bytes(), 0o755)
        for name, path in tree.libraries(PROGRAMS).items()
    }
    return programs | libraries


def write(entries: dict[str, cpio.Entry], image: Path) -> None:
    """Write regular files (path -> entry) to `image`, an erofs file system. Raises GuestError."""
    with tempfile.TemporaryDirectory(dir=image.parent) as root:
        for name, entry in entries.items():
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            path.write_bytes(entry.data)
            path.chmod(entry.mode & 0o7777)
        command = [program("mkfs.erofs"), "--quiet", *OPTIONS, str(image), root]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuestError(f"`{' '.join(command)}` ended with status {done.returncode}: {done.stderr.strip()}")
