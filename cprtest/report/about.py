# SPDX-License-Identifier: GPL-2.0-or-later
"""What results were obtained on and with: the host, and the versions of everything."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError
from cprtest.provision import installed

_PACKAGES = ("avocado-framework", "qemu.qmp", "paramiko", "virtme-ng")


def host() -> dict[str, str]:
    """The machine, as a reader of results wants to know it."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "name": platform.node(),
        "system": _system(),
        "kernel": platform.release(),
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "memory": f"{pages / 2**30:.1f} GiB",
        "user": "root" if os.geteuid() == 0 else f"user {os.geteuid()}",
    }


def versions() -> dict[str, str]:
    """Versions of this checkout, of what set-up installed, and of the Python packages that matter."""
    found = {"qemu-cpr": _commit()}
    try:
        found |= installed.versions()
    except (CprError, OSError, ValueError) as error:
        found["installed"] = f"unknown: {error}"
    for package in _PACKAGES:
        try:
            found.setdefault(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", paths.CHECKOUT, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown commit"
    return answer.stdout.strip()


def _processor() -> str:
    return _field(Path("/proc/cpuinfo"), "model name", ":") or platform.machine()


def _system() -> str:
    return _field(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"') or platform.system()


def _field(path: Path, name: str, separator: str) -> str:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(separator)
            if key.strip() == name:
                return value.strip()
    except OSError:
        pass
    return ""
