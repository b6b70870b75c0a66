# SPDX-License-Identifier: GPL-2.0-or-later
"""A carrier of UDP packets between host and guest who changes some, to prove that a checker finds it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

from cprtest.host.network import Network
from cprtest.machine.devices import GUEST_ADDRESS, HOST_ADDRESS

Change = Callable[[list[bytes]], Sequence[bytes]]
"""Takes packets that follow each other, returns those that go on."""

_LARGEST = 65536


class Carrier:
    """Carries the packets of one flow, and changes some when told to.

    port: where the host's end and the guest's end listen. detour: where each of the two has to send to.
    struck: numbers of the packets that were changed.
    """

    def __init__(self, network: Network, port: int) -> None:
        made = [network.open_socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        self._to_host, self._to_guest = made
        self._to_host.bind(("127.0.0.1", 0))
        self._to_guest.bind((HOST_ADDRESS.format(0), 0))
        self.detour = (self._to_host.getsockname(), self._to_guest.getsockname())
        self._changes: dict[bool, tuple[Change, int]] = {}
        self.struck: list[int] = []
        ends = {True: (GUEST_ADDRESS.format(0), port), False: ("127.0.0.1", port)}
        for to_guest, address in ends.items():
            threading.Thread(target=self._carry, args=(to_guest, address), daemon=True).start()

    def strike(self, change: Change, to_guest: bool = True, count: int = 1) -> None:
        """Let `change` have the next `count` packets that pass in that direction."""
        self._changes[to_guest] = change, count

    def close(self) -> None:
        """Carry no more."""
        for sock in (self._to_host, self._to_guest):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _carry(self, to_guest: bool, address: tuple[str, int]) -> None:
        source, sink = (self._to_host, self._to_guest) if to_guest else (self._to_guest, self._to_host)
        held: list[bytes] = []
        with contextlib.suppress(OSError):  # closed
            while True:
                held.append(source.recv(_LARGEST))
                change, count = self._changes.get(to_guest, (None, 1))
                if len(held) < count:
                    continue
                if change:
                    self.struck += (int.from_bytes(packet[:8], "little") for packet in held)
                    self._changes.pop(to_guest)
                for packet in change(held) if change else held:
                    sink.sendto(packet, address)
                held = []
