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

LAB = "stock"
"""What the lab runs on: never a QEMU under test."""

DEFAULT = "reference"
"""The QEMU under test unless the user says otherwise."""

MUTANTS = ASSETS / "qemu" / "mutants" / "mutants.toml"
"""The faults that the mutants build can be told to have, a table each."""


@dataclass(frozen=True)
class Name:
    """A QEMU by its name: a flavour, or `mutants:MUTANT`, the mutants build with one fault switched on.

    A fault that sleeps can be told for how many milliseconds: `mutants:stop-slow=5`.
    """

    flavour: str
    mutant: str = ""


def named(word: str) -> Name | None:
    """What `word` names, or None if it is a binary's path. Raises UsageError for a mutant there is not."""
    flavour, colon, mutant = word.partition(":")
    if flavour not in FLAVOURS or (colon and flavour != "mutants"):
        return None
    build_of(flavour)
    fault, _, number = mutant.partition("=")
    if mutant and (fault not in mutants() or not (number or "0").isdecimal()):
        raise UsageError(f"there is no mutant {mutant!r}: `scripts/mutants --list` lists them.")
    return Name(flavour, mutant)


def mutants() -> dict[str, dict[str, Any]]:
    """The faults of the mutants build by name: phase, summary, seen, corpus, needs, side."""
    return tomllib.loads(MUTANTS.read_text(encoding="utf-8")) if MUTANTS.exists() else {}


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
    parts = {"stock": [], "reference": ["reference"], "mutants": ["reference", "mutants"]}[flavour]
    patches = [patch for part in parts for patch in sorted((assets / part).glob("*.patch"))]
    if parts and not list((assets / parts[-1]).glob("*.patch")):
        raise UsageError(f"the {flavour} build of QEMU is not there yet.")
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
