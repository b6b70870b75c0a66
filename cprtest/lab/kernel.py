# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel as the lab boots it: CACHE/lab/kernel-*, with the modules of every lab uncompressed.

virtme-ng looks for lib/modules/RELEASE above the kernel image. Debian compresses modules; unpacking
those that every lab loads would cost seconds on TCG, every time. All others are links to set-up's files.
The kernel itself is unpacked too, and entered by PVH, which saves another second.
"""

import lzma
import os
import shutil
import struct
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
_ZSTD_MAGIC = bytes.fromhex("28b52ffd")


def tree(kernel: Kernel) -> Path:
    """The directory with boot/vmlinuz-RELEASE, boot/vmlinux and lib/modules; made on first use (10 s)."""
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


def unpacked(image: bytes) -> bytes | None:
    """The ELF file in a bzImage, or None if it is not packed with zstd or there is no program to unpack it.

    Source: Documentation/arch/x86/boot.rst, setup_sects, payload_offset and payload_length. A size
    follows the zstd frame there, which the program complains about once it has written everything.
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    program = shutil.which("zstd")
    if program is None or not payload.startswith(_ZSTD_MAGIC):
        return None
    elf = subprocess.run([program, "-dcq"], input=payload[:-4], capture_output=True, check=False).stdout
    return elf if elf.startswith(b"\x7fELF") else None


def _fill(root: Path, kernel: Kernel) -> None:
    boot = root / "boot"
    boot.mkdir()
    image = boot / f"vmlinuz-{kernel.release}"  # without `file`, virtme-ng takes the release from the name
    shutil.copyfile(kernel.image, image)
    elf = unpacked(image.read_bytes())
    if elf:
        (boot / "vmlinux").write_bytes(elf)
    else:
        (boot / "vmlinux").symlink_to(image.name)
    needed = _needed(kernel)
    modules = root / "lib" / "modules" / kernel.release
    for directory, _, names in os.walk(kernel.modules):
        there = modules / Path(directory).relative_to(kernel.modules)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            source = Path(directory) / name
            if source in needed and source.suffix == ".xz":
                module = there / source.stem
                module.write_bytes(lzma.decompress(source.read_bytes()))
                _lighten(module)
            elif ".ko" in name or name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
                (there / name).symlink_to(source)
    _kmod("depmod", "-b", str(root), kernel.release)


def _lighten(module: Path) -> None:
    """Take the signature and the BTF type information off a module; it stays as it is without objcopy.

    The kernel hashes every byte of a signed module and checks all of its types: dear under TCG.
    """
    program = shutil.which("objcopy")
    if program:
        subprocess.run([program, "-g", "-R", ".BTF", "-R", ".BTF.base", str(module)], check=True)


def _needed(kernel: Kernel) -> set[Path]:
    """Files of the modules above and of those they depend on, from modprobe's dry run."""
    base = str(kernel.modules.parent.parent.parent)
    asked = (
        _kmod("modprobe", "-d", base, "-S", kernel.release, "--show-depends", name).splitlines()
        for name in _ALL
    )
    lines = [line for answer in asked for line in answer]
    return {Path(line.removeprefix("insmod ").strip()) for line in lines if line.startswith("insmod ")}


def _kmod(program: str, *arguments: str) -> str:
    path = shutil.which(program, path="/usr/sbin:/sbin")  # not in an ordinary user's PATH
    if path is None:
        raise CprError(f"{program} is missing: run `scripts/setup`, or install the Debian package kmod.")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CprError(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout
