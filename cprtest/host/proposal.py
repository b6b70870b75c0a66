# SPDX-License-Identifier: GPL-2.0-or-later
"""A host file for this machine, proposed from what sysfs shows: `scripts/doctor --hardware`. Only looks."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cprtest.host.memory import available_mib
from cprtest.host.pci import SYSFS, VFIO_DRIVERS, PciDevice
from cprtest.host.vfio_safety import Host, in_use, refusals

# Class and subclass of what makes sense to pass through (linux/pci_ids.h), with the name of its role.
_KINDS = {"0108": "nvme", "02": "nic", "03": "gpu", "12": "accelerator"}


@dataclass(frozen=True)
class Candidate:
    """A device of this machine. uses: why the machine needs it. obstacles: why it cannot be taken now."""

    device: PciDevice
    role: str
    uses: list[str]
    obstacles: list[str]

    def describe(self) -> str:
        """What it is, for the owner to recognise."""
        words = [_word(self.device.path / name).removeprefix("0x") for name in ("vendor", "device")]
        parts = [":".join(words), f"driver {self.device.driver or 'none'}"]
        parts += self.device.interfaces + self.device.disks
        parts.append(f"reset by {' or '.join(self.device.reset_methods) or 'nothing'}")
        return ", ".join(parts)


def candidates(sysfs: Path = SYSFS, host: Host | None = None) -> list[Candidate]:
    """Every device of this machine that could be passed through, or that its owner will look for."""
    found = []
    devices = sysfs / "bus/pci/devices"
    for address in sorted(path.name for path in devices.iterdir()) if devices.is_dir() else []:
        device = PciDevice(address, sysfs)
        kind = (device.path / "class").read_text().removeprefix("0x")
        role = next((role for start, role in _KINDS.items() if kind.startswith(start)), None)
        if role is None:
            continue
        uses = in_use(device, host or Host())
        against = refusals(device, {address}, host)
        found.append(Candidate(device, _named(device, role), uses, [r for r in against if r not in uses]))
    return found


def propose(found: list[Candidate], vdpa: list[Path]) -> str:
    """The text of a host file. What the machine itself uses is under `never`; the owner deletes the rest."""
    return "\n".join(_lines(found, vdpa)) + "\n"


def vdpa_nodes() -> list[Path]:
    """vDPA devices that QEMU can open."""
    return sorted(Path("/dev").glob("vhost-vdpa-*"))


def _lines(found: list[Candidate], vdpa: list[Path]) -> Iterator[str]:
    name = platform.node()
    yield f"# Host file of {name}, proposed by scripts/doctor --hardware (docs/hardware.md)."
    yield f"# Delete what tests must not take, then save it as hosts/{name}.yaml."
    free = [c for c in found if not c.uses and not c.obstacles]
    yield "devices:" if free else "devices: []  # none that is free to be taken"
    for candidate in free:
        yield f"  # {candidate.describe()}"
        yield f'  - {{role: {candidate.role}, address: "{candidate.device.address}"}}'
        if candidate.device.interfaces:
            yield "    # its traffic is tested if its cable's other end is here, too: wire: INTERFACE"
    for candidate in found:
        if candidate.obstacles and not candidate.uses:
            yield f"  # {candidate.device.address}, {candidate.role}, {candidate.describe()}:"
            yield from (f"  #   {reason}" for reason in candidate.obstacles)
    if vdpa:
        yield f"vdpa: [{', '.join(map(str, vdpa))}]"
    used = [candidate for candidate in found if candidate.uses]
    yield "never:" if used else "never: []"
    for candidate in used:
        yield f'  - "{candidate.device.address}"  # {" ".join(candidate.uses)}'
    yield f"memory_mib: {available_mib() // 2}  # half of what is free now"
    yield f"cpus: {len(os.sched_getaffinity(0))}"
    yield "taps: true  # in network namespaces that the tests make"


def _named(device: PciDevice, kind: str) -> str:
    """A role that tells devices of the same kind apart: by the driver, where it is the device's own."""
    driver = device.driver if device.driver not in (None, *VFIO_DRIVERS) else None
    name = (driver or kind).replace("_", "-").lower()
    return f"{name}-vf" if device.physical_function and not name.endswith("vf") else name


def _word(path: Path) -> str:
    return path.read_text().strip() if path.exists() else "?"
