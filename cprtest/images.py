# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk images: made, read as the guest sees them, checked. qemu: the build whose qemu-img does it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from cprtest.errors import CprError
from cprtest.machine.devices import Disk
from cprtest.provision import installed


def made(qemu: Path, directory: Path, size_mib: int = 64, format: str = "raw", **front: Any) -> Disk:
    """A fresh disk, an image file in `directory`. size_mib: MiB. front: as in Disk."""
    # Absolute, so that an image on top of it can name it.
    image = directory.resolve() / f"disk{front.get('index') or ''}.{format}"
    _run(qemu, "create", "-q", "-f", format, str(image), f"{size_mib}M")
    return Disk(image, format, **front)


def contents(qemu: Path, disk: Disk, snapshot: str | None = None) -> Path:
    """What the guest sees of the disk, as a plain file; QEMU must have ended.

    snapshot: what it saw when that one, inside the image, was taken.
    """
    if disk.format == "raw":
        return disk.image
    plain = disk.image.with_suffix(f".{snapshot or 'contents'}")
    of = ["-l", snapshot] if snapshot else []
    _run(qemu, "convert", *of, "-f", disk.format, "-O", "raw", str(disk.image), str(plain))
    return plain


def snapshots(qemu: Path, disk: Disk) -> list[str]:
    """The names of the snapshots inside the image; QEMU must have ended."""
    told = json.loads(_run(qemu, "info", "--output=json", "-f", disk.format, str(disk.image)))
    return [snapshot["name"] for snapshot in told.get("snapshots", ())]


def check(qemu: Path, disk: Disk) -> None:
    """The disk's image is consistent (`qemu-img check`); QEMU must have ended. Raises CprError.

    A raw image has no structure of its own.
    """
    if disk.format != "raw":
        _run(qemu, "check", "-q", "-f", disk.format, str(disk.image))


def _run(qemu: Path, *arguments: str) -> str:
    """What it says: qemu-img of the same build as QEMU, or else of the stock build. Raises CprError."""
    beside = qemu.with_name("qemu-img")
    program = beside if beside.exists() else installed.qemu().with_name("qemu-img")
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CprError(f"`qemu-img {' '.join(arguments)}` failed: {done.stdout}{done.stderr}".strip())
    return done.stdout
