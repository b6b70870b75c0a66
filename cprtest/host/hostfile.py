# SPDX-License-Identifier: GPL-2.0-or-later
"""The host file: which devices of this machine the tests may take, in the words of its owner.

    {"devices": [{"role": "virtio-net", "address": "0000:01:00.0", "wire": "wire0"}, ...]}

CPRTEST_DEVICES names it. `role`: virtio-net, igb-vf, nvme, ivshmem, e1000e, or any word that a profile
uses. `wire`: the interface at the other end of an assigned NIC's cable.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest.errors import UsageError

VARIABLE = "CPRTEST_DEVICES"
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_KNOWN = {"role", "address", "wire"}


@dataclass(frozen=True)
class HostDevice:
    """A PCI device that tests may bind to vfio-pci; `address` as in /sys/bus/pci/devices."""

    role: str
    address: str
    wire: str | None = None


def allowed_devices(path: Path | None = None) -> list[HostDevice]:
    """The devices listed in the host file; none where no host file is named.

    Raises UsageError when the file is missing or says something that is not understood.
    """
    if path is None:
        name = os.environ.get(VARIABLE)
        if not name:
            return []
        path = Path(name)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"The host file {path} ({VARIABLE}) cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The host file {path} is not JSON: {error}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("devices"), list):
        raise UsageError(f'The host file {path} has to be an object with a list "devices".')
    devices = [_device(path, number, entry) for number, entry in enumerate(content["devices"], 1)]
    twice = sorted({d.address for d in devices if sum(e.address == d.address for e in devices) > 1})
    if twice:
        raise UsageError(f"The host file {path} lists {', '.join(twice)} more than once.")
    return devices


def wires() -> set[str]:
    """The interfaces that tests may take into their own network namespaces."""
    return {device.wire for device in allowed_devices() if device.wire}


def wire_of(address: str) -> str:
    """The interface at the other end of the cable of the NIC at `address`. Raises UsageError without one."""
    wire = next((device.wire for device in allowed_devices() if device.address == address), None)
    if wire is None:
        raise UsageError(f'The host file lists no "wire" for {address}, and the test needs its other end.')
    return wire


def _device(path: Path, number: int, entry: Any) -> HostDevice:
    where = f"Device {number} of the host file {path}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where} has to be an object, and is {entry!r}.")
    unknown = sorted(set(entry) - _KNOWN)
    if unknown:
        raise UsageError(
            f"{where} has unknown keys {', '.join(unknown)}; known are {', '.join(sorted(_KNOWN))}."
        )
    role, address, wire = entry.get("role"), entry.get("address"), entry.get("wire")
    if not isinstance(role, str) or not role:
        raise UsageError(f'{where} needs a "role", for example "nvme".')
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise UsageError(f'{where} needs an "address" like "0000:01:00.0", and has {address!r}.')
    if wire is not None and (not isinstance(wire, str) or not wire):
        raise UsageError(f'{where}: "wire" has to be the name of an interface, and is {wire!r}.')
    return HostDevice(role, address, wire)
