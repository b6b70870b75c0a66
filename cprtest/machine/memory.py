# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that is a guest's memory, as /proc shows it."""

from pathlib import Path

from cprtest.errors import CprError


def memory_file(pid: int) -> Path:
    """The largest memory file that QEMU `pid` has open: its guest's. Raises CprError when there is none."""
    sizes: dict[Path, int] = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(link.readlink()).startswith(("/memfd:", "/dev/shm/")):
                sizes[link] = link.stat().st_size
        except OSError:  # closed meanwhile
            continue
    if not sizes:
        raise CprError(f"QEMU {pid} has no descriptor of its guest's memory.")
    return max(sizes, key=lambda link: sizes[link])
