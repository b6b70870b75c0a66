# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of a running guest's disk, taken by QEMU."""

from dataclasses import replace

from cprtest.guest.guest import Guest
from cprtest.machine.devices import Disk
from cprtest.machine.process import Machine


def internal(machine: Machine, disk: Disk, name: str) -> None:
    """Take a snapshot called `name` inside the qcow2 image."""
    machine.qmp.command("blockdev-snapshot-internal-sync", device=_top(machine, disk), name=name)


def delete(machine: Machine, disk: Disk, name: str) -> None:
    """Delete a snapshot inside the image."""
    machine.qmp.command("blockdev-snapshot-delete-internal-sync", device=_top(machine, disk), name=name)


def external(guest: Guest, disk: Disk) -> Disk:
    """Let the guest write to a new qcow2 image from now on, on top of the old one; the disk with it.

    The guest's next QEMU is started with that.
    """
    layer = disk.image.with_name(f"{disk.image.stem}-over.qcow2")
    machine = guest.machine
    machine.qmp.command(
        "blockdev-snapshot-sync",
        node_name=_top(machine, disk),
        snapshot_file=str(layer),
        snapshot_node_name=f"{disk.id}-{layer.stem}",
        format="qcow2",
    )
    over = replace(disk, image=layer, format="qcow2")
    devices = tuple(over if device == disk else device for device in guest.spec.devices)
    guest.spec = replace(guest.spec, devices=devices)
    return over


def _top(machine: Machine, disk: Disk) -> str:
    """QEMU's name of the node that the guest's device has: of the newest layer."""
    blocks = machine.qmp.command("query-block")
    (node,) = (b["inserted"]["node-name"] for b in blocks if f"/{disk.id}/" in f"/{b['qdev']}/")
    return str(node)
