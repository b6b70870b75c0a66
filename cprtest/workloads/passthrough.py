# SPDX-License-Identifier: GPL-2.0-or-later
"""The workload that fits a passthrough device, by its role in the host file."""

from collections.abc import Callable
from typing import Protocol

from cprtest.guest.guest import Guest
from cprtest.host import hostfile
from cprtest.host.network import Network
from cprtest.machine.plugged import Passthrough
from cprtest.workloads.ivshmem import Ivshmem
from cprtest.workloads.nic import Nic
from cprtest.workloads.nvme import Nvme
from cprtest.workloads.presence import Presence


class Exerciser(Protocol):
    """A workload that makes a device work once, and judges it."""

    def exercise(self) -> None:
        """Use the device, compare with the round before. Raises AssertionError when something is wrong."""


def exercisers(guest: Guest, network: Callable[[], Network]) -> list[Exerciser]:
    """The workloads for all passthrough devices of the guest."""
    return [exerciser(guest, device, network) for device in guest.passthrough]


def exerciser(guest: Guest, device: Passthrough, network: Callable[[], Network]) -> Exerciser:
    """The workload for `device`; for a NIC without a wire in the host file, or what nobody knows, Presence.

    `network`: the test's network, asked for only where a NIC needs it.
    """
    if device.role == "nvme":
        return Nvme(guest, device)
    if device.role.startswith("ivshmem"):
        return Ivshmem(guest, device)
    if wire := hostfile.wire_of(device.address):
        return Nic(guest, device, network(), wire)
    return Presence(guest, device)
