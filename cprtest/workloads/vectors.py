# SPDX-License-Identifier: GPL-2.0-or-later
"""The vectors of an assigned NIC, each by itself: none falls silent in a hand-over, none comes without cause.

A vector that packets moved before has to move again. An interrupt is due to a packet, or to the driver, which
lets some NICs raise one every two seconds (e1000e_watchdog_task and igbvf_watchdog_task of the kernel): more
than these, of which some NICs make several, there cannot be. Packets may share one, so there can be fewer.
"""

from dataclasses import dataclass

from cprtest.errors import Damage
from cprtest.guest.guest import Guest
from cprtest.machine.plugged import Passthrough
from cprtest.workloads import interrupts
from cprtest.workloads.nic import Nic

_ROUNDS = 5
_WATCHDOG = 2.0
"""Seconds between two interrupts that a driver asks for."""
_INTEL = ("igb-vf", "e1000e")
_FOR_A_PACKET, _FOR_A_WATCHDOG = 2, 4
"""The most that Intel's NICs as QEMU emulates them raised without a hand-over; mostly it was one of each."""
_IN, _OUT = ("rx", "input"), ("tx", "output")
"""How drivers name a vector for one way alone."""


@dataclass(frozen=True)
class Count:
    """What has been so far. vectors: interrupts of each. since, until: packets received, packets sent and the
    uptime in seconds, as these were before the interrupts were counted and after it.
    """

    vectors: dict[str, int]
    since: tuple[int, int, float]
    until: tuple[int, int, float]


class NicVectors:
    """Sends packets when it is made, and remembers which vectors moved; `check` demands the same again."""

    def __init__(self, guest: Guest, device: Passthrough, nic: Nic) -> None:
        self._guest = guest
        self._device = device
        self._nic = nic
        nic.exercise()  # ARP, and what a driver does once
        self._last = self._count()
        self.moving = self._moved()
        if not self.moving:
            raise AssertionError(f"{device.id}: packets move none of its vectors")

    def check(self) -> None:
        """Since the last round nothing came but what packets explain, and they move the same vectors again.

        Raises Damage.
        """
        self._explained(self._last, self._count(), "while nothing was sent")
        if silent := self.moving - self._moved():
            names = " and ".join(sorted(silent))
            raise Damage(f"{self._device.id}: packets moved {names} before, and do no longer", "resume")

    def _moved(self) -> set[str]:
        """The vectors that some packets move."""
        before = self._count()
        for _ in range(_ROUNDS):
            self._nic.exercise()
        self._last = self._count()
        self._explained(before, self._last, f"in {_ROUNDS} rounds of packets")
        return {name for name, count in self._last.vectors.items() if count > before.vectors.get(name, 0)}

    def _explained(self, before: Count, after: Count, when: str) -> None:
        """Raises Damage when a vector went back, or further than there was cause for."""
        for name, count in after.vectors.items():
            raised, due = count - before.vectors.get(name, 0), self._due(name, before, after)
            if not 0 <= raised <= due:
                raise Damage(
                    f"{self._device.id}: {name} came {raised} times {when}, and {due} were due", "resume"
                )

    def _due(self, name: str, before: Count, after: Count) -> int:
        """How often vector `name` may have come at most."""
        received, sent, seconds = (now - then for now, then in zip(after.until, before.since, strict=True))
        packets = int(
            (0 if any(way in name for way in _OUT) else received)
            + (0 if any(way in name for way in _IN) else sent)
        )
        if self._device.role not in _INTEL:
            return packets
        return _FOR_A_PACKET * packets + _FOR_A_WATCHDOG * (int(seconds / _WATCHDOG) + 1)

    def _count(self) -> Count:
        since = self._packets()
        return Count(interrupts.by_vector(self._guest, self._device), since, self._packets())

    def _packets(self) -> tuple[int, int, float]:
        statistics = f"/sys/class/net/{self._nic.name}/statistics"
        read = f"cat {statistics}/rx_packets {statistics}/tx_packets /proc/uptime"
        received, sent, uptime, _ = self._guest.run(read).split()
        return int(received), int(sent), float(uptime)
