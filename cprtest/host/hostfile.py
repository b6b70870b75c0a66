# SPDX-License-Identifier: GPL-2.0-or-later
"""The host file: what of this machine the tests may take, in the words of its owner (docs/hardware.md).

    devices:
      - {role: connectx-vf, address: "0000:c1:00.2", wire: enp193s0f1}
    vdpa: [/dev/vhost-vdpa-0]
    memory_mib: 16384
    cpus: 8
    taps: true
    never: ["0000:01:00.0", eno1]

CPRTEST_DEVICES names it; hosts/NAME.yaml is that of the host called NAME. The lab's is JSON in that shape.
"""

import functools
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest.errors import UsageError
from cprtest.paths import CHECKOUT

VARIABLE = "CPRTEST_DEVICES"
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_ROLE = re.compile(r"[a-z][a-z0-9-]*")
_VDPA = re.compile(r"/dev/vhost-vdpa-\d+")
_EXAMPLE = '"0000:01:00.0"'


@dataclass(frozen=True)
class HostDevice:
    """A PCI device that tests may bind to vfio-pci; `address` as in /sys/bus/pci/devices.

    role: virtio-net, igb-vf, nvme, ivshmem, e1000e, or any word that a profile uses. wire: the interface at
    the other end of an assigned NIC's cable.
    """

    role: str
    address: str
    wire: str | None = None


@dataclass(frozen=True)
class HostFile:
    """What the owner allows. memory_mib, cpus: None for all there is. never: PCI addresses and interfaces."""

    devices: tuple[HostDevice, ...] = ()
    vdpa: tuple[Path, ...] = ()
    memory_mib: int | None = None
    cpus: int | None = None
    taps: bool = True
    never: tuple[str, ...] = ()


def place() -> Path | None:
    """The host file of this machine; None where there is none."""
    if name := os.environ.get(VARIABLE):
        return Path(name)
    own = CHECKOUT / "hosts" / f"{platform.node()}.yaml"
    return own if own.exists() else None


def current() -> HostFile:
    """What this machine's host file says; without one no device may be taken. Raises UsageError."""
    path = place()
    return HostFile() if path is None else _read(path)


def allowed_devices(path: Path | None = None) -> list[HostDevice]:
    """The devices listed in the host file `path`, by default this machine's. Raises UsageError."""
    return list((current() if path is None else _read(path)).devices)


def wires() -> set[str]:
    """The interfaces that tests may take into their own network namespaces."""
    return {device.wire for device in allowed_devices() if device.wire}


def wire_of(address: str) -> str | None:
    """The interface at the other end of the cable of the NIC at `address`; None where none is listed."""
    return next((device.wire for device in allowed_devices() if device.address == address), None)


def check_readable() -> None:
    """Raise UsageError if this machine's host file is named and cannot be read. Standard library only."""
    if path := place():
        _text(path)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UsageError(
            f"The host file {path} ({VARIABLE}) cannot be read: {error.strerror}. "
            "`scripts/doctor --hardware` proposes one."
        ) from error


def _read(path: Path) -> HostFile:
    return _parsed(path, _text(path))


@functools.cache
def _parsed(path: Path, text: str) -> HostFile:
    # `scripts/doctor --hardware > hosts/NAME.yaml` finds its own file there, still empty.
    content = _loaded(path, text) if text.strip() else {}
    if not isinstance(content, dict):
        raise UsageError(f'The host file {path} has to be a mapping with a list "devices".')
    unknown = sorted(str(key) for key in set(content) - set(_KEYS))
    if unknown:
        raise UsageError(
            f"The host file {path} has unknown keys {', '.join(unknown)}; known are {', '.join(_KEYS)}."
        )
    values = {key: _KEYS[key](f"The host file {path}", key, value) for key, value in content.items()}
    found = HostFile(**values)
    _check_together(path, found)
    return found


def _loaded(path: Path, text: str) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"The host file {path} is not JSON: {error}.") from error
    try:
        import yaml  # noqa: PLC0415 - not there before set-up, and the lab's file needs none
    except ImportError:
        raise UsageError(f"The host file {path} cannot be read before scripts/setup has run.") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"The host file {path} is not YAML: {' '.join(str(error).split())}.") from error


def _check_together(path: Path, found: HostFile) -> None:
    addresses = [device.address for device in found.devices]
    twice = sorted({address for address in addresses if addresses.count(address) > 1})
    if twice:
        raise UsageError(f"The host file {path} lists {', '.join(twice)} more than once.")
    taken = {*addresses, *(device.wire for device in found.devices if device.wire)}
    if both := sorted(taken & set(found.never)):
        raise UsageError(
            f"The host file {path} allows {', '.join(both)} and lists it under never: take it out of one."
        )


def _devices(file: str, _key: str, value: Any) -> tuple[HostDevice, ...]:
    if not isinstance(value, list):
        raise UsageError(f'{file}: "devices" has to be a list, and is {value!r}.')
    return tuple(
        _device(f"Device {number} of {file[:1].lower()}{file[1:]}", entry)
        for number, entry in enumerate(value, 1)
    )


def _device(where: str, entry: Any) -> HostDevice:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} has to be an object, and is {entry!r}.")
    known = set(HostDevice.__dataclass_fields__)
    unknown = sorted(str(key) for key in set(entry) - known)
    if unknown:
        raise UsageError(
            f"{where} has unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}."
        )
    role, address, wire = entry.get("role"), entry.get("address"), entry.get("wire")
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise UsageError(f'{where} needs a "role" of letters, digits and hyphens, for example "nvme".')
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise UsageError(f'{where} needs an "address" like {_EXAMPLE}, and has {address!r}.')
    if wire is not None and (not isinstance(wire, str) or not wire):
        raise UsageError(f'{where}: "wire" has to be the name of an interface, and is {wire!r}.')
    return HostDevice(role, address, wire)


def _vdpa(file: str, key: str, value: Any) -> tuple[Path, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and _VDPA.fullmatch(v) for v in value):
        raise UsageError(f'{file}: "{key}" has to be a list like [/dev/vhost-vdpa-0], and is {value!r}.')
    return tuple(Path(v) for v in value)


def _number(file: str, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f'{file}: "{key}" has to be a whole number from 1 on, and is {value!r}.')
    return value


def _yes_or_no(file: str, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f'{file}: "{key}" has to be true or false, and is {value!r}.')
    return value


def _names(file: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise UsageError(
            f'{file}: "{key}" has to be a list of PCI addresses like {_EXAMPLE} and interfaces, '
            f"and is {value!r}."
        )
    return tuple(value)


_KEYS: dict[str, Callable[[str, str, Any], Any]] = {
    "devices": _devices,
    "vdpa": _vdpa,
    "memory_mib": _number,
    "cpus": _number,
    "taps": _yes_or_no,
    "never": _names,
}
