# SPDX-License-Identifier: GPL-2.0-or-later
"""An assigned NIC: packets to and from the machine at the other end of its cable."""

import socket

from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.limits import TimeLimit, stretched, wait_until
from cprtest.machine.devices import GUEST_ADDRESS, HOST_ADDRESS
from cprtest.machine.plugged import Passthrough
from cprtest.workloads import interrupts

# Above the numbers of the guest's virtio NICs.
_FIRST = 20
_DISCARD = 9
"""A UDP port at which nobody listens in the guest."""


class Nic:
    """Pings the guest through the assigned NIC; the answers need its DMA both ways and its interrupts."""

    def __init__(self, guest: Guest, device: Passthrough, network: Network, wire: str) -> None:
        number = _FIRST + device.slot
        self._guest = guest
        self._device = device
        self._network = network
        self._wire = wire
        self._address = GUEST_ADDRESS.format(number)
        network.adopt(wire, address=f"{HOST_ADDRESS.format(number)}/24")
        # One command: a guest by TCG in an emulated lab takes the better part of half a minute for each.
        found = f"for nic in {device.guest_path}/net/* {device.guest_path}/virtio*/net/*; do"
        named = 'test -e "$nic" || continue; name=${nic##*/}'  # quoted: it may have come since
        started = f"ip address add {self._address}/24 dev $name && ip link set $name up && echo $name"
        command = f"({found} {named}; {started} || exit 1; done)"
        what = f"the guest's driver to make a NIC of {device.id}"
        self.name = wait_until(what, lambda: guest.run(command).strip(), 10)

    def ping(self) -> None:
        """Raises AssertionError unless packets go both ways."""
        try:
            self._network.ping(self._address, 10, self._guest.dead)
        except TimeLimit as error:
            raise AssertionError(f"{self._device.id}: {error}") from error

    def exercise(self) -> None:
        """Raises AssertionError unless packets go both ways and interrupts come."""
        before = interrupts.count(self._guest, self._device)
        self.ping()
        raised = interrupts.count(self._guest, self._device) - before
        if raised <= 0:
            raise AssertionError(f"{self._device.id}: packets went through without a single interrupt")

    def question(self) -> "Question":
        """A packet for the guest, not sent yet."""
        hardware = self._guest.run(f"cat /sys/class/net/{self.name}/address").strip()
        # Else the host would ask for the address, and those packets raise interrupts, too.
        entry = [self._address, "lladdr", hardware, "dev", self._wire, "nud", "permanent"]
        self._network.run(["ip", "neighbour", "replace", *entry])
        made = self._network.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.connect((self._address, _DISCARD))
        return Question(self._device.id, made)


class Question:
    """One packet to a port where nobody listens: a guest that gets it says so."""

    def __init__(self, device: str, sock: socket.socket) -> None:
        self._device = device
        self._sock = sock

    def ask(self) -> None:
        """Send it."""
        self._sock.send(b"?")

    def assert_answered(self, when: str) -> None:
        """Wait for the guest's answer. Raises AssertionError, which says `when` it was asked."""
        self._sock.settimeout(stretched(5))
        try:
            self._sock.recv(1)
        except ConnectionRefusedError:
            return
        except TimeoutError:
            raise AssertionError(
                f"{self._device}: the interrupt of a packet that came {when} was lost"
            ) from None
        finally:
            self._sock.close()
