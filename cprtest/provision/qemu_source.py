# SPDX-License-Identifier: GPL-2.0-or-later
"""Which QEMU builds there are and where each belongs. Standard library only: `installed` needs it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest.errors import UsageError
from cprtest.paths import ASSETS, cache_dir
from cprtest.provision.files import digest

FLAVOURS = ("stock", "reference", "mutants")


@dataclass(frozen=True)
class Build:
    """One flavour of QEMU: what it is made of and the directory it belongs in."""

    flavour: str
    version: str
    sources: dict[str, dict[str, str]]  # role: {path, sha256}
    arguments: list[str]
    firmware: list[str]
    patches: list[Path]
    directory: Path

    @property
    def binary(self) -> Path:
        """QEMU itself; firmware is found relative to it, in ../share/qemu."""
        return self.directory / "bin" / "qemu-system-x86_64"


def _host() -> str:
    """What a binary built here runs on: the distribution's release, which sets library versions."""
    try:
        return Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return "unknown"


def build_of(flavour: str, assets: Path = ASSETS / "qemu") -> Build:
    """Describe a flavour's build. Raises UsageError for one that there is not, or not yet."""
    if flavour not in FLAVOURS:
        raise UsageError(f"there is no QEMU flavour {flavour!r}: it is one of {', '.join(FLAVOURS)}.")
    patches = sorted((assets / flavour).glob("*.patch"))
    if flavour != "stock" and not patches:
        raise UsageError(f"the {flavour} build of QEMU is not there yet: only stock can be built.")
    pins: dict[str, Any] = tomllib.loads((assets / "source.toml").read_text(encoding="utf-8"))
    inputs = digest([assets / "source.toml", *patches, _host()])
    return Build(
        flavour,
        pins["version"],
        {file["role"]: {"path": file["path"], "sha256": file["sha256"]} for file in pins["files"]},
        pins["configure"]["arguments"],
        pins["firmware"]["packages"],
        patches,
        cache_dir() / "qemu" / f"{flavour}-{pins['version']}-{inputs}",
    )
