# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of unpacked Debian packages, whose programs run on this host with the tree's own libraries."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from cprtest.guest import GuestError

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# Ceph's own library, where librados looks for it by an absolute path (its RUNPATH).
_PRIVATE = f"{_LIBRARIES}/ceph"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


class Tree:
    """The packages unpacked in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """A file of the tree; raises GuestError if no package of the tree has it."""
        path = self.root / name
        if not path.is_file():
            raise GuestError(
                f"no package of the guest image contains {name}: its package list is out of date"
            )
        return path.read_bytes()

    def run(self, program: str, *arguments: str) -> bytes:
        """Run a program of the tree and return what it printed, on whatever host this is.

        Dynamic programs are started by the tree's own loader, which takes the tree's own libraries.
        """
        static = b"/ld-linux" not in self.read(program)[:4096]
        command = [str(self.root / program)] if static else [*self._loader(), str(self.root / program)]
        done = subprocess.run([*command, *arguments], capture_output=True, check=False)
        if done.returncode:
            message = done.stderr.decode(errors="replace").strip()
            raise GuestError(
                f"{program} {' '.join(arguments)} ended with status {done.returncode}: {message}"
            )
        return done.stdout

    def libraries(self, programs: Iterable[str]) -> dict[str, Path]:
        """Every shared library that `programs` load: path in the image -> file in the tree.

        Asked from the loader itself. Raises GuestError naming a library that no package of the tree has.
        """
        found = {"lib64/ld-linux-x86-64.so.2": self.root / _LOADER}
        for program in programs:
            command = [*self._loader(), "--list", str(self.root / program)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise GuestError(f"libraries of {program}: {(done.stdout + done.stderr).strip()}")
            for line in done.stdout.splitlines():
                name, arrow, path = line.strip().partition(" => ")
                if arrow and "ld-linux" not in name:
                    found[f"{_LIBRARIES}/{name}"] = self._in_tree(path.split(" (")[0], program)
        return found

    def _loader(self) -> list[str]:
        # --inhibit-cache: the host's own libraries must not fill in for ones that the guest will lack.
        loader = str(self.root / _LOADER)
        path = f"{self.root / _LIBRARIES}:{self.root / _PRIVATE}"
        return [loader, "--inhibit-cache", "--library-path", path]

    def _in_tree(self, path: str, program: str) -> Path:
        if not path.startswith(f"{self.root}/"):
            raise GuestError(
                f"{program} needs {Path(path).name}, which no package of the guest image contains"
            )
        return Path(path)
