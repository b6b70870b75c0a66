# SPDX-License-Identifier: GPL-2.0-or-later
"""An assigned NIC: packets to and from the machine at the other end of its cable."""

from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.limits import wait_until
from cprtest.machine.devices import GUEST_ADDRESS, HOST_ADDRESS, Passthrough
from cprtest.workloads import interrupts

# Above the numbers of the guest's virtio NICs.
_FIRST = 20


class Nic:
    """Pings the guest through the assigned NIC; the answers need its DMA both ways and its interrupts."""

    def __init__(self, guest: Guest, device: Passthrough, network: Network, wire: str) -> None:
        number = _FIRST + device.slot
        self._guest = guest
        self._device = device
        self._network = network
        self._address = GUEST_ADDRESS.format(number)
        network.adopt(wire, address=f"{HOST_ADDRESS.format(number)}/24")
        name = (
            wait_until(
                f"the guest's driver to make a NIC of {device.id}",
                lambda: guest.run(
                    f"ls -d {device.guest_path}/net/* {device.guest_path}/virtio*/net/* 2>/dev/null || true"
                ),
                10,
            )
            .strip()
            .rsplit("/", 1)[1]
        )
        guest.run(f"ip address add {self._address}/24 dev {name} && ip link set {name} up")

    def exercise(self) -> None:
        """Raises AssertionError or TimeLimit unless packets went both ways and interrupts came."""
        before = interrupts.count(self._guest, self._device)
        self._network.ping(self._address, 10, self._guest.dead)
        raised = interrupts.count(self._guest, self._device) - before
        if raised <= 0:
            raise AssertionError(f"{self._device.id}: packets went through without a single interrupt")
