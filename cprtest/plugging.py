# SPDX-License-Identifier: GPL-2.0-or-later
"""Passthrough devices of a guest: the ports that they need, and what is done on the host to have them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from cprtest.host import vfio
from cprtest.machine.plugged import Assigned, Passthrough
from cprtest.machine.ports import RootPorts


def ports(wanted: Sequence[Assigned]) -> RootPorts:
    """Root ports for so many devices, with windows for the largest BAR among them."""
    if not wanted:
        return RootPorts()
    return RootPorts.fitting(len(wanted), vfio.largest_bar([how.role for how in wanted]))


def bound(wanted: Sequence[Assigned], held: ExitStack, *, iommufd: bool) -> list[Passthrough]:
    """The devices, each bound to its VFIO driver until `held` is closed, in the order they were asked for.

    Raises CprError if the host has none of that role, or it may not be taken.
    """
    devices: list[Passthrough] = []
    for asked in wanted:
        device = held.enter_context(vfio.assigned(asked.role, asked.driver))
        how = replace(asked, role=device.role)
        before = sum(other.role == how.role for other in devices)
        devices.append(Passthrough(len(devices), how, device.address, iommufd, before))
    return devices
