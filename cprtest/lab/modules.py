# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel as the lab boots it: CACHE/lab/kernel-RELEASE-*, with the modules of every lab uncompressed.

virtme-ng looks for lib/modules/RELEASE above the kernel image. Debian compresses modules; unpacking
those that every lab loads would cost seconds on TCG, every time. All others are links to set-up's files.
"""

import lzma
import os
import shutil
import subprocess
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError
from cprtest.provision.files import digest, locked, new_directory
from cprtest.provision.installed import Kernel

KVM = ("kvm_amd", "kvm_intel")
"""One of them fits the CPU; TCG emulates an AMD one."""

FIRST = ("virtio_blk", "erofs", "overlay", "virtio_net", "igb")
"""What the lab's own mounts and NICs need."""

REST = ("vhost_net", "vhost_vsock", "tun", "vfio_pci")
"""What tests need. Drivers of devices that only ever go to vfio-pci are not loaded: probing takes time."""

_INITRAMFS = ("9p", "9pnet_virtio", "virtio_mmio")
"""What virtme-ng's initramfs loads."""

_ALL = (*KVM, *FIRST, *REST, *_INITRAMFS)


def tree(kernel: Kernel) -> Path:
    """The directory with boot/vmlinuz-RELEASE and lib/modules/RELEASE; made on first use (some 10 s)."""
    stamp = digest([kernel.version, str(kernel.image), Path(__file__)])
    final = paths.cache_dir() / "lab" / f"kernel-{kernel.release}-{stamp}"
    if final.is_dir():
        return final
    final.parent.mkdir(exist_ok=True)
    with locked("lab/kernel"):
        if not final.is_dir():
            with new_directory(final) as scratch:
                _fill(scratch, kernel)
    return final


def _fill(root: Path, kernel: Kernel) -> None:
    # the name: without the program `file`, virtme-ng takes the release from there
    image = root / "boot" / f"vmlinuz-{kernel.release}"
    image.parent.mkdir()
    shutil.copyfile(kernel.image, image)
    needed = _needed(kernel)
    modules = root / "lib" / "modules" / kernel.release
    for directory, _, names in os.walk(kernel.modules):
        there = modules / Path(directory).relative_to(kernel.modules)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            source = Path(directory) / name
            if source in needed and source.suffix == ".xz":
                (there / source.stem).write_bytes(lzma.decompress(source.read_bytes()))
            elif ".ko" in name or name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
                (there / name).symlink_to(source)
    _kmod("depmod", "-b", str(root), kernel.release)


def _needed(kernel: Kernel) -> set[Path]:
    """Files of the modules above and of those they depend on, from modprobe's dry run."""
    base = kernel.modules.parent.parent.parent
    lines = [
        line
        for name in _ALL
        for line in _kmod("modprobe", "-d", str(base), "-S", kernel.release, "--show-depends", name).splitlines()
    ]
    return {Path(line.removeprefix("insmod ").strip()) for line in lines if line.startswith("insmod ")}


def _kmod(program: str, *arguments: str) -> str:
    path = shutil.which(program, path="/usr/sbin:/sbin")  # not in an ordinary user's PATH
    if path is None:
        raise CprError(f"{program} is missing: run `scripts/setup`, or install the Debian package kmod.")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CprError(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout
