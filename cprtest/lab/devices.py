# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's devices: those that tests may pass through, and the lab NICs that some are wired to.

Every device that can be passed through sits alone behind a root port, and so in an IOMMU group of its
own (pcie-root-port has ACS). Root ports have fixed slots: what sits behind one is then found in sysfs
by the slot, whatever bus number the firmware gave it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cprtest.errors import UsageError

FIRST_SLOT = 0x10
FIRST_WIRE_SLOT = 0x18
MORE_IVSHMEM = 3
"""Slots between those of the other devices and the first of a wire."""


@dataclass(frozen=True)
class Assignable:
    """A device behind a root port; `device` and `backends` are QEMU options.

    role: as in the host file. wire: name of the lab NIC at the other end of its cable. vfs: not the
    device itself is handed out, but so many virtual functions of it.
    """

    role: str
    device: str
    backends: tuple[str, ...] = ()
    wire: str | None = None
    vfs: int = 0


def assignable(ivshmem_mib: Sequence[int], disk_fd: int) -> tuple[Assignable, ...]:
    """What tests may pass through. disk_fd: descriptor of the NVMe device's image.

    ivshmem_mib: sizes of BARs; the first device has the role ivshmem, the others ivshmem-SIZE.
    FLR: virtio-net, igb and its VFs, NVMe have it; e1000e and ivshmem do not.
    Raises UsageError for more than there is room for.
    """
    first, *others = ivshmem_mib
    if len(others) > MORE_IVSHMEM:
        raise UsageError(f"A lab has room for {1 + MORE_IVSHMEM} ivshmem devices, not {len(ivshmem_mib)}.")
    return (
        Assignable("virtio-net", "virtio-net-pci,iommu_platform=on", wire="wire0"),
        Assignable("igb-vf", "igb", wire="wire1", vfs=2),
        Assignable(
            "nvme",
            # dbcs=off: with shadow doorbells the device of QEMU 10.2 can leave its INTx line asserted
            # (docs/lab.md), and that storm would say nothing of the hand-over.
            "nvme,drive=nvme,serial=qemu-cpr,dbcs=off",
            (
                *("-add-fd", f"fd={disk_fd},set=1"),
                "-blockdev",
                "driver=raw,node-name=nvme,file.driver=file,file.filename=/dev/fdset/1,file.locking=off",
            ),
        ),
        _ivshmem("ivshmem", first),
        Assignable("e1000e", "e1000e", wire="wire2"),
        *(_ivshmem(further_ivshmem(mib), mib) for mib in others),
    )


def further_ivshmem(mib: int) -> str:
    """The role of an ivshmem device that is not the lab's first, by the size of its BAR."""
    return f"ivshmem-{mib}"


def _ivshmem(role: str, mib: int) -> Assignable:
    backend = f"memory-backend-memfd,id={role},size={mib}M,share=on"
    return Assignable(role, f"ivshmem-plain,memdev={role}", ("-object", backend))


def chosen(devices: Sequence[Assignable], roles: Sequence[str]) -> tuple[Assignable, ...]:
    """Those of the devices that have one of `roles`; all where none is named. Raises UsageError."""
    known = [device.role for device in devices]
    if unknown := [role for role in roles if role not in known]:
        raise UsageError(f"The lab has no device {', '.join(unknown)}; it can have {', '.join(known)}.")
    return tuple(device for device in devices if not roles or device.role in roles)


def qemu_options(devices: Sequence[Assignable], cables: Sequence[tuple[int, int]]) -> list[str]:
    """QEMU options for `devices`. cables: per wired device the two ends, connected datagram sockets.

    A cable is two dgram netdevs back to back: a hub would hold up one port while the other NIC is down.
    """
    options: list[str] = []
    ends = iter(cables)
    for number, device in enumerate(devices):
        slot = FIRST_SLOT + number
        options += [
            *device.backends,
            "-device",
            f"pcie-root-port,id=port{slot},chassis={slot},addr={slot:#x}",
        ]
        front = f"{device.device},bus=port{slot}"
        if device.wire:
            near, far = next(ends)
            front += f",netdev=near{number},mac=52:54:00:00:0a:{slot:02x},romfile="
            options += ["-netdev", f"dgram,id=near{number},local.type=fd,local.str={near}"]
            options += ["-netdev", f"dgram,id=far{number},local.type=fd,local.str={far}"]
            nic = f"virtio-net-pci,netdev=far{number},addr={FIRST_WIRE_SLOT + number:#x}"
            options += ["-device", f"{nic},mac=52:54:00:00:0b:{slot:02x},romfile="]
        options += ["-device", front]
    return options


def table(devices: Sequence[Assignable]) -> str:
    """The same for the inside, one device a line: role, slot of its root port, wire, wire's slot, VFs."""
    lines = (
        f"{device.role} {FIRST_SLOT + n:02x} {device.wire or '-'} {FIRST_WIRE_SLOT + n:02x} {device.vfs}\n"
        for n, device in enumerate(devices)
    )
    return "".join(lines)
