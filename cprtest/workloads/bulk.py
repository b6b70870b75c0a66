# SPDX-License-Identifier: GPL-2.0-or-later
"""A device with a lot of state (vfio-bulk): all of it is there afterwards, and the guest uses it again."""

from cprtest.errors import Damage
from cprtest.guest.guest import Guest
from cprtest.host.bulk import Bulk
from cprtest.host.pci import VFIO_BULK
from cprtest.workloads.ivshmem import Ivshmem

_COPYING = {"STOP_COPY", "PRE_COPY", "PRE_COPY_P2P", "RESUMING"}


class BulkState:
    """Gives the guest's device on vfio-bulk so many MiB of state, part of it written by the guest.

    `host` is the host's side of it.
    """

    def __init__(self, guest: Guest, mib: int) -> None:
        (device,) = (device for device in guest.passthrough if device.how.driver == VFIO_BULK)
        self.host = Bulk(device.address)
        self.host.resize(mib)
        self.host.fill(mib)
        self._memory = Ivshmem(guest, device)
        self._memory.exercise()
        self._fingerprint = self.host.fingerprint()

    def check(self) -> None:
        """Raises Damage when the device does not run, or is not what it was; then the guest uses it again."""
        self.check_state()
        self._memory.exercise()
        self._fingerprint = self.host.fingerprint()

    def check_state(self) -> None:
        """Raises Damage when the device does not run, or its state is not what it was."""
        state, fingerprint = self.host.state, self.host.fingerprint()
        told = "; ".join(
            f"{arc.before} > {arc.after}{' failed' if arc.error else ''}" for arc in self.host.arcs()
        )
        if fingerprint != self._fingerprint:
            raise Damage(
                f"device state: was {self._fingerprint}, is {fingerprint}; its changes: {told}", "stream"
            )
        if state != "RUNNING":
            raise Damage(f"device state: it is in {state}, not RUNNING; its changes: {told}", "resume")

    def assert_not_copied(self) -> None:
        """Nobody has read or written the device's state since it was opened."""
        copying = [arc for arc in self.host.arcs() if arc.after in _COPYING]
        if copying:
            raise Damage(
                f"device state: process {copying[0].process} took it to {copying[0].after}", "stream"
            )
