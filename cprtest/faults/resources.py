# SPDX-License-Identifier: GPL-2.0-or-later
"""The host has no more of something when the target starts: huge pages, room in /dev/shm, memory, rights.

For a host that nobody else needs: the lab.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault
from cprtest.host.programs import program

if TYPE_CHECKING:
    from cprtest.transfer import Transfer

_POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_SHM = Path("/dev/shm")
_CGROUPS = Path("/sys/fs/cgroup")
_CHUNK = 1 << 20


class NoHugePages(Fault):
    """All huge pages of 2 MiB that nobody uses are taken out of the pool before the target starts."""

    name = "no-huge-pages-left"
    breaks = "the host's pool of huge pages"
    phase = "acquire"
    side = "target"

    def arm(self, transfer: Transfer) -> None:
        """Make the pool as small as it can be."""
        pages = _POOL / "nr_hugepages"
        self._had = pages.read_text()
        pages.write_text("0")
        names = ("nr_hugepages", "free_hugepages", "resv_hugepages")
        all_, free, reserved = (int((_POOL / name).read_text()) for name in names)
        if free == reserved:  # the source's, which it has not touched yet
            self.struck(f"{all_ - free} huge pages are in use, {reserved} reserved, and no other is free")

    def undo(self, transfer: Transfer) -> None:
        """Fill it again."""
        if hasattr(self, "_had"):
            (_POOL / "nr_hugepages").write_text(self._had)


class ShmFull(Fault):
    """/dev/shm is filled to its last byte before the target starts."""

    name = "shm-full"
    breaks = "the room in /dev/shm"
    phase = "acquire"
    side = "target"
    _file = _SHM / f"cpr-full-{os.getpid()}"

    def arm(self, transfer: Transfer) -> None:
        """Fill it."""
        with self._file.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(_CHUNK)):
                    pass
            except OSError as error:
                left = shutil.disk_usage(_SHM).free
                self.struck(f"{error.strerror} after {file.tell() >> 20} MiB, {left} bytes are free")

    def undo(self, transfer: Transfer) -> None:
        """Make room."""
        self._file.unlink(missing_ok=True)


class MemoryLimited(Fault):
    """The target is in a memory cgroup of its own, of `mib` MiB and without swap (cgroups(7))."""

    breaks = "the target's memory, by its cgroup"
    phase = "acquire"
    side = "target"

    def __init__(self, mib: int) -> None:
        self.name = f"target-memory-cgroup-{mib}M"
        self._mib = mib
        self._group = _CGROUPS / f"cpr-{os.getpid()}-{mib}"

    def arm(self, transfer: Transfer) -> None:
        """Make the group, and have the target enter it before it becomes QEMU."""
        (_CGROUPS / "cgroup.subtree_control").write_text("+memory")
        self._group.mkdir()
        (self._group / "memory.max").write_text(str(self._mib << 20))
        enter = f'echo $$ >{self._group}/cgroup.procs && exec "$@"'
        transfer.plan.prefix += ["sh", "-c", enter, "sh"]

    def undo(self, transfer: Transfer) -> None:
        """The kernel counts how often the group came to its limit."""
        text = (self._group / "memory.events").read_text() if self._group.exists() else ""
        events = dict(line.split() for line in text.splitlines())
        if int(events.get("max", 0)):
            self.struck(f"the group came to its limit of {self._mib} MiB {events['max']} times: {events}")

    def close(self) -> None:
        """Remove the group. A target that got the guest goes on in the group above."""
        if self._group.exists():
            for pid in (self._group / "cgroup.procs").read_text().split():
                (_CGROUPS / "cgroup.procs").write_text(pid)
            self._group.rmdir()


class PathGone(Fault):
    """Device nodes, directories of them or images are not there when the target starts."""

    phase = "acquire"
    side = "target"

    def __init__(self, *paths: Path) -> None:
        self._away = {path: path.with_name(f"{path.name}.away-{os.getpid()}") for path in paths}
        self.name = "no-" + "-".join(path.name for path in paths)
        self.breaks = f"the path {_listed(paths)}"

    def arm(self, transfer: Transfer) -> None:
        """Move them away."""
        for path, away in self._away.items():
            path.rename(away)
        self.struck(f"{_listed(self._away)}: moved away before the target was started")

    def undo(self, transfer: Transfer) -> None:
        """Move them back."""
        for path, away in self._away.items():
            if away.exists():
                away.rename(path)


class PathDenied(Fault):
    """The target may not open device nodes, directories of them or images.

    It is root without the capability to pass over permissions, so that nothing else is denied to it.
    """

    phase = "acquire"
    side = "target"

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._modes: dict[Path, int] = {}
        self.name = "denied-" + "-".join(path.name for path in paths)
        self.breaks = f"the right to open {_listed(paths)}"

    def arm(self, transfer: Transfer) -> None:
        """Take all permissions away (setpriv(1), capabilities(7))."""
        for path in self._paths:
            self._modes[path] = path.stat().st_mode
            path.chmod(0)
        transfer.plan.prefix += [program("setpriv"), "--bounding-set=-dac_override,-dac_read_search"]
        self.struck(f"the target was started without the right to open {_listed(self._paths)}")

    def undo(self, transfer: Transfer) -> None:
        """Give them back."""
        for path, mode in self._modes.items():
            path.chmod(stat.S_IMODE(mode))


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
