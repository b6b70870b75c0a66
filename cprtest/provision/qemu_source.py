# SPDX-License-Identifier: GPL-2.0-or-later
"""Which QEMUs set-up provides and where each belongs. Standard library only: `installed` needs it."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest.errors import UsageError
from cprtest.paths import ASSETS, cache_dir
from cprtest.provision.files import digest

BUILT = ("stock", "lab", "reference", "mutants")
"""The flavours that we build from source."""

_SERIES: dict[str, list[str]] = {
    "stock": [],
    "lab": ["lab"],
    "reference": ["reference"],
    "mutants": ["reference", "mutants"],
}
"""The patches of each: directories of assets/qemu."""

PACKAGED = ASSETS / "qemu" / "debian.toml"
"""Debian's own binaries, a table each."""

LAB = "lab"
"""What the lab runs on: stock, with its TCG mended (assets/qemu/lab). Never a QEMU under test."""

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
    if flavour not in flavours() or (colon and flavour != "mutants"):
        return None
    flavour_of(flavour)
    fault, _, number = mutant.partition("=")
    if mutant and (fault not in mutants() or not (number or "0").isdecimal()):
        raise UsageError(f"there is no mutant {mutant!r}: `scripts/mutants --list` lists them.")
    return Name(flavour, mutant)


def mutants() -> dict[str, dict[str, Any]]:
    """The faults of the mutants build by name: phase, summary, seen, corpus, needs, side."""
    return tomllib.loads(MUTANTS.read_text(encoding="utf-8")) if MUTANTS.exists() else {}


def packaged() -> dict[str, dict[str, str]]:
    """Debian's own binaries by flavour: suite, version, sha256."""
    return tomllib.loads(PACKAGED.read_text(encoding="utf-8")) if PACKAGED.exists() else {}


def flavours() -> tuple[str, ...]:
    """All names of QEMUs that set-up can provide."""
    return (*BUILT, *packaged())


@dataclass(frozen=True)
class Flavour:
    """One QEMU that set-up provides, and the directory it belongs in."""

    flavour: str
    version: str
    directory: Path

    @property
    def binary(self) -> Path:
        """QEMU itself; firmware is found relative to it."""
        return self.directory / "bin" / "qemu-system-x86_64"


@dataclass(frozen=True)
class Build(Flavour):
    """One that we build, and what it is made of."""

    sources: dict[str, dict[str, str]]  # role: {path, sha256}
    arguments: list[str]
    firmware: list[str]
    patches: list[Path]


@dataclass(frozen=True)
class Packaged(Flavour):
    """Debian's own binary. sha256: of its package."""

    suite: str
    sha256: str


def _host() -> str:
    """What a binary built here runs on: the distribution's release, which sets library versions."""
    try:
        return Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return "unknown"


def flavour_of(flavour: str) -> Flavour:
    """Describe a flavour. Raises UsageError for one that there is not, or not yet."""
    if pin := packaged().get(flavour):
        made = digest([json.dumps(pin, sort_keys=True), str(cache_dir())])  # paths are written into it
        directory = cache_dir() / "qemu" / f"{flavour}-{made}"
        return Packaged(flavour, pin["version"], directory, pin["suite"], pin["sha256"])
    return build_of(flavour)


def build_of(flavour: str, assets: Path = ASSETS / "qemu") -> Build:
    """Describe a flavour that we build. Raises UsageError for one that there is not, or not yet."""
    if flavour not in BUILT:
        raise UsageError(f"there is no QEMU flavour {flavour!r}: it is one of {', '.join(flavours())}.")
    parts = _SERIES[flavour]
    patches = [patch for part in parts for patch in sorted((assets / part).glob("*.patch"))]
    if parts and not list((assets / parts[-1]).glob("*.patch")):
        raise UsageError(f"the {flavour} build of QEMU is not there yet.")
    pins: dict[str, Any] = tomllib.loads((assets / "source.toml").read_text(encoding="utf-8"))
    inputs = digest([assets / "source.toml", *patches, _host()])
    return Build(
        flavour,
        pins["version"],
        cache_dir() / "qemu" / f"{flavour}-{pins['version']}-{inputs}",
        {file["role"]: {"path": file["path"], "sha256": file["sha256"]} for file in pins["files"]},
        pins["configure"]["arguments"],
        pins["firmware"]["packages"],
        patches,
    )
