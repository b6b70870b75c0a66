# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules for the guest: which ones, what they depend on, and the index modprobe reads."""

import gzip
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cprtest.guest import GuestError

# virtio-pci, virtio-console, pciehp and the 8250 are built into Debian's kernel.
WANTED = (
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
    "sd_mod",
    "virtio_balloon",
    "virtio_rng",
    "vmw_vsock_virtio_transport",
    "igb",
    "igbvf",
    "e1000e",
    "nvme",
    # erofs needs libcrc32c, which does not load before there is a crc32c; its module does not say so.
    "crc32c_generic",
    "ext4",
    "erofs",
    "8021q",
)

OLDER = frozenset({"crc32c_generic"})
"""Modules that older kernels have, and newer ones do without."""


@dataclass(frozen=True)
class Index:
    """What depmod found out about one kernel's modules; names have `_` for `-`, as the kernel writes them."""

    root: Path
    paths: dict[str, str]
    needs: dict[str, tuple[str, ...]]
    builtin: frozenset[str]

    @classmethod
    def read(cls, root: Path) -> "Index":
        """Read modules.dep and modules.builtin in `root` (…/lib/modules/RELEASE); depmod must have run."""
        listing = root / "modules.dep"
        if not listing.is_file():
            raise GuestError(f"{listing} is missing: run depmod on this kernel's modules first")
        paths: dict[str, str] = {}
        needs: dict[str, tuple[str, ...]] = {}
        for line in listing.read_text().splitlines():
            path, _, dependencies = line.partition(":")
            paths[name_of(path)] = path
            needs[name_of(path)] = tuple(name_of(dependency) for dependency in dependencies.split())
        builtin = (root / "modules.builtin").read_text().splitlines()
        return cls(root, paths, needs, frozenset(name_of(path) for path in builtin))

    def in_load_order(self, wanted: Iterable[str]) -> list[str]:
        """The modules to load, dependencies first, each once, built-in ones left out.

        Raises GuestError naming a module that this kernel does not have.
        """
        order: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in self.builtin or name in order or (name in OLDER and name not in self.paths):
                return
            if name not in self.paths:
                raise GuestError(f"the kernel in {self.root} has no module {name}, which the guest needs")
            for dependency in self.needs[name]:
                visit(dependency)
            order[name] = None

        for name in wanted:
            visit(name)
        return list(order)

    def contents(self, name: str) -> bytes:
        """The module itself, decompressed: the guest has no time for xz."""
        path = self.root / self.paths[name]
        data = path.read_bytes()
        match path.suffix:
            case ".ko":
                return data
            case ".xz":
                return lzma.decompress(data)
            case ".gz":
                return gzip.decompress(data)
        raise GuestError(f"{path} is compressed in a way the image builder does not read")

    def dep_file(self, names: Iterable[str]) -> str:
        """modules.dep for modules kept flat as NAME.ko in one directory."""
        lines = (
            f"{name}.ko: {' '.join(f'{need}.ko' for need in self.needs[name])}".rstrip() for name in names
        )
        return "\n".join(lines) + "\n"


def name_of(path: str) -> str:
    """A module's name from its path, with or without a compression suffix."""
    return Path(path).name.split(".ko")[0].replace("-", "_")
