# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine types: what the tests have to know of each, and which one several QEMUs can share."""

from collections.abc import Sequence
from dataclasses import dataclass

from cprtest.errors import CprError
from cprtest.machine.features import Features


@dataclass(frozen=True)
class Board:
    """What machine types differ in. bus: QEMU's name of the first PCI bus. options: more of -machine.

    plugs: it has root ports to plug devices into.
    """

    architecture: str
    bus: str
    options: str
    plugs: bool = True


BOARDS = {
    "q35": Board("x86_64", "pcie.0", "vmport=off,graphics=off"),
    "pc": Board("x86_64", "pci.0", "vmport=off,graphics=off", plugs=False),
    # The interrupt controller that the host's KVM, or TCG, does best; passthrough devices need its ITS.
    "virt": Board("aarch64", "pcie.0", "gic-version=max,its=on"),
}
"""The machine types that the tests know."""


def board(machine: str) -> Board:
    """Of a type with a version too: pc-q35-10.0 is a q35."""
    return next(found for name, found in BOARDS.items() if name in machine)


def shared(machine: str, qemus: Sequence[Features]) -> str:
    """The machine type to give to each of `qemus` for `machine`, so that a guest can go from one to the next.

    One without a version is another in each release: where they differ it is the newest that all know.
    Raises CprError when there is none.
    """
    meant = {qemu.machines.get(machine, machine) for qemu in qemus}
    if len(meant) == 1:
        return machine
    known = [name for name in meant if all(name in qemu.machines for qemu in qemus)]
    if not known:
        versions = ", ".join(qemu.text for qemu in qemus)
        raise CprError(f"The QEMUs ({versions}) have no {machine} in common: {', '.join(sorted(meant))}.")
    return max(known, key=_version)


def _version(machine: str) -> tuple[int, ...]:
    """(10, 2) for pc-q35-10.2."""
    return tuple(int(part) for part in machine.rpartition("-")[2].split(".") if part.isdecimal())
