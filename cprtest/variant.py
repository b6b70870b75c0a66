# SPDX-License-Identifier: GPL-2.0-or-later
"""One variant of the matrix: what a guest is made of and how it is handed over, as Avocado parameters.

A parameter is an axis, its values are those of AXES. Whatever supplies them, a table (tests/vars/matrix.cit)
or a profile (tests/vars/*.yaml), one that is not given has the first of them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cprtest.errors import UsageError
from cprtest.machine.boards import BOARDS
from cprtest.machine.devices import Disk, Nic, Tap
from cprtest.machine.nics import Macvtap, Passt, Vdpa

_TAP = ("tun", "netns")
_NICS: dict[str, tuple[tuple[Nic, ...], tuple[str, ...]]] = {
    "none": ((), ()),
    "tap": ((Tap(vhost=False),), _TAP),
    "tap-2q": ((Tap(vhost=False, queues=2),), _TAP),
    "vhost": ((Tap(),), (*_TAP, "vhost-net")),
    "vhost-2q": ((Tap(queues=2),), (*_TAP, "vhost-net")),
    "vhost+tap": ((Tap(), Tap(vhost=False, index=1)), (*_TAP, "vhost-net")),
    "macvtap": ((Macvtap(vhost=False),), ("netns", "macvtap", "qemu:tap-cpr")),
    "macvtap-vhost": ((Macvtap(),), ("netns", "macvtap", "vhost-net", "qemu:tap-cpr")),
    "vhost-user": ((Passt(),), _TAP),
    "vhost-vdpa": ((Vdpa(),), ("netns", "vdpa", "root")),
}
"""Kinds of NIC, and what each needs."""

_NUMBER = re.compile(r"[1-9]\d*")
_DEVICES = re.compile(r"[a-z0-9][a-z0-9:.-]*(\+[a-z0-9][a-z0-9:.-]*)*")

AXES: dict[str, tuple[str, ...] | re.Pattern[str]] = {
    "machine": tuple(BOARDS),
    "accel": ("kvm", "tcg"),
    "memory": ("memfd", "shm", "hugepages"),
    "vcpus": _NUMBER,
    "nic": tuple(_NICS),
    "disk": ("none", "virtio-blk", "virtio-scsi"),
    "image": ("raw", "qcow2"),
    "aio": ("threads", "native", "io_uring"),
    "vfio": _DEVICES,
    "container": ("legacy", "iommufd"),
    "vsock": ("none", "vhost"),
    "mode": ("cpr-transfer", "cpr-exec"),
    "target": ("same", "other"),
}
"""The axes and their values. vcpus: a number. vfio: none, or roles or PCI addresses of the host file, joined
by +. target: `other` is not the source's QEMU (--target-qemu, else the mutants build, no fault on)."""

_FIRST = {"vcpus": "1", "vfio": "none"}
MEMORY_MIB = 256


@dataclass(frozen=True)
class Variant:
    """The values of all axes."""

    values: dict[str, str]

    @classmethod
    def read(cls, get: Callable[[str], Any]) -> "Variant":
        """The variant whose parameters `get` knows. Raises UsageError for a value that is none of an axis."""
        given = {axis: get(axis) for axis in AXES}
        return cls({axis: _checked(axis, value) for axis, value in given.items()})

    def __getitem__(self, axis: str) -> str:
        return self.values[axis]

    @property
    def passthrough(self) -> list[str]:
        """Roles or addresses of the passthrough devices."""
        return [] if self["vfio"] == "none" else self["vfio"].split("+")

    def needs(self) -> list[str]:
        """What a host and its QEMU must offer (cprtest.needs)."""
        found = [f"qemu:{self['mode']}", f"memory:{2 * MEMORY_MIB}", f"cpus:{self['vcpus']}"]
        found += _NICS[self["nic"]][1]
        if self["accel"] == "kvm":
            found.append("kvm")
        if self["memory"] == "hugepages":
            found.append(f"hugepages:{MEMORY_MIB}")
        if self["vsock"] == "vhost":
            found += ["vhost-vsock", "root"]
        if self.passthrough:
            found += ["root", "qemu:vfio-cpr", *(f"vfio:{name}" for name in self.passthrough)]
            found += ["iommufd"] if self["container"] == "iommufd" else []
        return list(dict.fromkeys(found))

    def guest(self, disk: Callable[..., Disk]) -> dict[str, Any]:
        """Arguments of TestBed.boot; `disk` makes one."""
        kind = {"format": self["image"], "bus": self["disk"], "aio": self["aio"]}
        return {
            **{axis: self[axis] for axis in ("machine", "accel", "memory")},
            "memory_mib": MEMORY_MIB,
            "vcpus": int(self["vcpus"]),
            "net": _NICS[self["nic"]][0],
            "disk": None if self["disk"] == "none" else disk(**kind),
            "passthrough": self.passthrough,
            "iommufd": bool(self.passthrough) and self["container"] == "iommufd",
            "vsock": self["vsock"] == "vhost",
        }


def _checked(axis: str, value: Any) -> str:
    allowed = AXES[axis]
    if value is None:
        return _FIRST[axis] if isinstance(allowed, re.Pattern) else allowed[0]
    word = str(value)
    if isinstance(allowed, re.Pattern):
        known, right = f"it has the form {allowed.pattern}", allowed.fullmatch(word) is not None
    else:
        known, right = f"there are {', '.join(allowed)}", word in allowed
    if not right:
        raise UsageError(f"Parameter {axis}: {word!r} is none of its values; {known}.")
    return word
