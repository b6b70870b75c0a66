# SPDX-License-Identifier: GPL-2.0-or-later
"""The host changes while the guest is on its way: the tap's link goes down, its interface is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cprtest.faults.stations import Action, Station
from cprtest.host.programs import program

if TYPE_CHECKING:
    from cprtest.host.network import Network
    from cprtest.transfer import Transfer


class _Interface(Action):
    """Something that is done to the interface `name` of a tap."""

    side = "source"

    def __init__(self, network: Network, name: str = "tap0") -> None:
        self._network = network
        self._interface = name

    def _link(self, *words: str) -> str:
        self._network.run([program("ip"), "link", *words])
        return f"`ip link {' '.join(words)}` was done"


class LinkDown(_Interface):
    """The tap's link is down from the station on until the transfer has ended."""

    name = "tap-link-down"
    breaks = "the tap's link"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Take it down."""
        return self._link("set", "dev", self._interface, "down")

    def undo(self, transfer: Transfer) -> None:
        """Bring it up."""
        self._link("set", "dev", self._interface, "up")


class InterfaceDeleted(_Interface):
    """The tap's interface is deleted: the descriptors that both QEMUs have lead nowhere, for ever."""

    name = "tap-deleted"
    breaks = "the tap's interface"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Delete it."""
        return self._link("delete", "dev", self._interface)
