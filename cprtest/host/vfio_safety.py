# SPDX-License-Identifier: GPL-2.0-or-later
"""Reasons for which a device must not be taken from the host, even when it is listed.

House rule: a test never takes what the machine itself is using. Everything here only looks.
"""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cprtest.host import hostfile
from cprtest.host.pci import VFIO_DRIVERS, PciDevice
from cprtest.host.programs import program


def _addresses(interface: str) -> list[str]:
    """The interface's addresses but for link-local ones, which every interface that is up has."""
    argv = [program("ip"), "-json", "address", "show", "dev", interface]
    said = subprocess.run(argv, capture_output=True, check=True).stdout
    infos = [info for link in json.loads(said) for info in link.get("addr_info", ())]
    return [info["local"] for info in infos if info.get("scope") != "link"]


@dataclass(frozen=True)
class Host:
    """Where to look: the parts of the host that tell what is in use."""

    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
    addresses: Callable[[str], list[str]] = field(default=_addresses)


def refusals(device: PciDevice, allowed: set[str], host: Host | None = None) -> list[str]:
    """One sentence for every reason against giving `device` to user space; none if it may be taken.

    `allowed`: the addresses in the host file; one of a physical function covers its virtual functions.
    """
    if not device.path.exists():
        return [f"There is no PCI device {device.address} on this host."]
    parent = device.physical_function
    if device.address not in allowed and (parent is None or parent.address not in allowed):
        return [f"{device.address} is not in the host file, so the tests may not touch it."]
    host = host or Host()
    return [*_forbidden(device), *_group(device, allowed), *in_use(device, host)]


def in_use(device: PciDevice, host: Host) -> list[str]:
    """One sentence for everything for which the host itself uses `device`."""
    return [*_disks(device, host), *_interfaces(device, host)]


def _forbidden(device: PciDevice) -> Iterator[str]:
    """What the owner said must never be touched: the device, the one it is a function of, its interfaces."""
    parent = device.physical_function
    names = [device.address, *([parent.address] if parent else []), *device.interfaces]
    for name in sorted(set(names) & set(hostfile.current().never)):
        yield f"The host file lists {name} under never."


def _group(device: PciDevice, allowed: set[str]) -> Iterator[str]:
    group = device.iommu_group
    if group is None:
        yield f"{device.address} is in no IOMMU group: the IOMMU is missing or switched off."
        return
    for member in device.group_members:
        if member.address in allowed or member.driver in (None, *VFIO_DRIVERS) or member.is_bridge:
            continue
        yield (
            f"{device.address} shares IOMMU group {group} with {member.address}, which the host uses "
            f"with the driver {member.driver} and which is not in the host file."
        )


def _disks(device: PciDevice, host: Host) -> Iterator[str]:
    mounts = [line.split() for line in (host.proc / "self/mountinfo").read_text().splitlines()]
    swaps = {Path(line.split()[0]).name for line in (host.proc / "swaps").read_text().splitlines()[1:]}
    for name in device.disks:
        number = (device.sysfs / "class/block" / name / "dev").read_text().strip()
        source = str(host.dev / name)
        # proc_pid_mountinfo(5): major:minor is field 3, the source the second behind the hyphen.
        mounted = [m[4] for m in mounts if number == m[2] or source == m[m.index("-") + 2]]
        if mounted:
            yield f"{device.address} carries {name}, which is mounted on {', '.join(mounted)}."
        elif name in swaps:
            yield f"{device.address} carries {name}, which is used as swap."
        elif _is_claimed(host.dev / name):
            yield f"{device.address} carries {name}, which something on this host has claimed for itself."


def _is_claimed(node: Path) -> bool:
    """Whether the kernel or a program holds the block device exclusively (open(2), O_EXCL)."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _interfaces(device: PciDevice, host: Host) -> Iterator[str]:
    routes = {line.split()[0] for line in _default_routes(host)}
    for name in device.interfaces:
        if name in routes:
            yield f"{device.address} is {name}, which has the host's default route."
        elif addresses := host.addresses(name):
            yield f"{device.address} is {name}, which has the address {', '.join(addresses)}."
        elif (device.sysfs / "class/net" / name / "master").is_symlink():
            yield f"{device.address} is {name}, which is a port of a bridge or bond."


def _default_routes(host: Host) -> Iterator[str]:
    """Lines beginning with the interface of a default route, IPv4 and IPv6."""
    for line in (host.proc / "net/route").read_text().splitlines()[1:]:
        if line.split()[1] == line.split()[7] == "00000000":
            yield line
    ipv6 = host.proc / "net/ipv6_route"
    for line in ipv6.read_text().splitlines() if ipv6.exists() else ():
        fields = line.split()
        if fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            yield fields[9]
