# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kernel, guest image and QEMU are. Reads files, runs nothing, needs the standard library only."""

import sys
from dataclasses import dataclass
from pathlib import Path

from cprtest.errors import NotInstalled
from cprtest.paths import ASSETS, CHECKOUT, VENV, cache_dir
from cprtest.provision import programs
from cprtest.provision.files import digest, read_record
from cprtest.provision.qemu_source import DEFAULT, LAB, flavour_of, named

KERNEL_PACKAGE = "linux-image-amd64"
SUITE = "trixie"
ARCHITECTURE = "x86_64"
"""What kernel and guest image are made for."""
NEWEST = "trixie-backports"
"""Where the newest kernel is that guests can be given."""
_SETUP = {SUITE: "scripts/setup", NEWEST: "scripts/setup --full"}
# The modules of cprtest.guest that the image is made by; the others talk to the guest.
GUEST_BUILDERS = ("image", "cpio", "modules", "tools", "tree")
MODULES = ("vfio-bulk",)
"""Kernel modules of ours, each a directory of assets/."""
SAMPLES = {"mtty": "samples/vfio-mdev/mtty.c"}
"""Modules made from one file of the kernel's own source, each with its file."""


@dataclass(frozen=True)
class Kernel:
    """The stock kernel that lab and guest boot. modules: .../lib/modules/RELEASE, with depmod's indexes."""

    release: str
    image: Path
    modules: Path
    version: str


@dataclass(frozen=True)
class GuestImage:
    """The guest's initramfs and tools disk; key: private SSH key for root; ident: hash of the contents."""

    initrd: Path
    tools: Path
    key: Path
    ident: str


def kernel_record(suite: str = SUITE) -> Path:
    """The file that says which kernel of a suite is in use."""
    return cache_dir() / "installed" / f"kernel-{suite}.json"


def guest_record(suite: str = SUITE) -> Path:
    """The file that says which image belongs to this checkout's image sources and a suite's kernel."""
    builders = (CHECKOUT / "cprtest" / "guest" / f"{name}.py" for name in GUEST_BUILDERS)
    sources = [*(ASSETS / "guest").rglob("*"), *builders]
    files = sorted(path for path in sources if path.is_file())
    inputs = digest([kernel(suite).release, " ".join(programs.FLAGS), *files])
    return cache_dir() / "installed" / f"guest-{inputs}.json"


def passt_record() -> Path:
    """The file that says which passt is in use."""
    return cache_dir() / "installed" / f"passt-{SUITE}.json"


def passt() -> list[str]:
    """The words that start passt, by its own loader and with its own C library. Raises NotInstalled."""
    record = read_record(passt_record(), "version")
    if record is None or not (base := cache_dir() / "passt" / record["version"]).is_dir():
        raise NotInstalled("passt is not there yet: run `scripts/setup`.")
    return [str(base / "ld-linux-x86-64.so.2"), "--library-path", str(base), str(base / "passt")]


def venv_record() -> Path:
    """The file that says what this checkout's venv was made from."""
    return VENV / "provision.json"


def kernel(suite: str = SUITE) -> Kernel:
    """The kernel that set-up fetched from a suite. Raises NotInstalled."""
    record = read_record(kernel_record(suite), "release", "version")
    if record is None or not (base := cache_dir() / "kernel" / record["release"]).is_dir():
        raise NotInstalled(f"the kernel of {suite} is not there yet: run `{_SETUP[suite]}`.")
    release = record["release"]
    modules = base / "modules" / "lib" / "modules" / release
    return Kernel(release, base / "vmlinuz", modules, record["version"])


def guest_image(suite: str = SUITE) -> GuestImage:
    """The guest image that set-up built from this checkout's sources, for a suite's kernel.

    Raises NotInstalled.
    """
    record = read_record(guest_record(suite), "ident")
    if record is None or not (base := cache_dir() / "guest" / record["ident"]).is_dir():
        raise NotInstalled(
            f"the guest image is not built yet, or its sources have changed: run `{_SETUP[suite]}`."
        )
    return GuestImage(base / "initrd.img", base / "tools.erofs", base / "id_ed25519", base.name)


def module_path(name: str) -> Path:
    """Where the module `name` of MODULES or SAMPLES is, or will be, for the kernel in use.

    Raises NotInstalled.
    """
    sources = [] if name in SAMPLES else sorted(p for p in (ASSETS / name).iterdir() if p.suffix != ".md")
    builder = CHECKOUT / "cprtest" / "provision" / "modules.py"
    stamp = digest([kernel().release, kernel().version, builder, *sources])
    return cache_dir() / "modules" / f"{name}-{stamp}" / f"{name}.ko"


def module(name: str) -> Path:
    """The module `name` of MODULES or SAMPLES, for the kernel that set-up fetched. Raises NotInstalled."""
    path = module_path(name)
    if not path.exists():
        option = " --full" if name in SAMPLES else ""
        raise NotInstalled(f"the kernel module {name} is not built yet: run `scripts/setup{option}`.")
    return path


def qemu(flavour: str = LAB) -> Path:
    """The qemu-system-x86_64 of a flavour. Raises NotInstalled, or UsageError for an unknown flavour."""
    binary = flavour_of(flavour).binary
    if not binary.exists():
        raise NotInstalled(f"QEMU {flavour} is not there yet: run `scripts/build-qemu {flavour}`.")
    return binary


def family(binary: Path) -> str | None:
    """The version that a build of ours was made from; None for a QEMU of the user's.

    The series of ours change no device's state: builds of one family load each other's saved guests.
    """
    record = read_record(binary.parent.parent / "build.json", "versions") or {}
    version = record.get("versions", {}).get("qemu")
    return None if version is None else str(version)


def firmware(binary: Path) -> list[str]:
    """The options that tell a QEMU of set-up's where its firmware is; Debian's would look in /usr/share."""
    beside = binary.parent.parent / "share" / "qemu"
    return ["-L", str(beside)] if family(binary) else []


@dataclass(frozen=True)
class Qemu:
    """A QEMU to test. mutant: the fault that is switched on in it, a mutants build; "" for none."""

    binary: Path
    mutant: str = ""


def under_test(word: str | None = None) -> Qemu:
    """The QEMU that a user calls `word`: a path, stock, reference or mutants:MUTANT.

    Raises NotInstalled, and UsageError for a mutant that there is not.
    """
    name = named(word or DEFAULT)
    return Qemu(qemu(name.flavour), name.mutant) if name else Qemu(Path(word or ""))


def is_provided(binary: Path) -> bool:
    """Whether `binary` is a QEMU that set-up built or fetched, and so known to be what its version says."""
    return binary.resolve().is_relative_to((cache_dir() / "qemu").resolve())


def versions() -> dict[str, str]:
    """What set-up installed, by name; recorded with every result."""
    found = {"python": sys.version.split()[0], "kernel": kernel().version, "guest image": guest_image().ident}
    host = cache_dir() / "installed" / "host.json"
    made = (qemu().parent.parent / "build.json", venv_record(), host, guest_record(), passt_record())
    for path in made:
        record = read_record(path) or {}
        found |= record.get("versions", {})
    return found
