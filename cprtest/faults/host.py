# SPDX-License-Identifier: GPL-2.0-or-later
"""The host changes while the guest is on its way.

A tap's link goes down, or its interface is deleted; the clock is stepped; a device is taken off the bus, or
reports an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cprtest.faults.stations import Action, Station
from cprtest.host import aer
from cprtest.host.programs import program
from cprtest.timeline import clock

if TYPE_CHECKING:
    from cprtest.host.network import Network
    from cprtest.host.removal import Removal
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


class ClockStepped(Action):
    """The host's time of day is set ahead by `seconds`, or back, until the transfer has ended.

    For a host that nobody else needs.
    """

    side = "source"

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self.name = f"clock-stepped-{'ahead' if seconds > 0 else 'back'}"
        self.breaks = f"the host's time of day, by {seconds:+} s"
        self._left = 0

    def act(self, transfer: Transfer, station: Station) -> str:
        """Set it."""
        before = clock.read_offset().value
        clock.step(self._seconds)
        self._left = self._seconds
        moved = clock.read_offset().value - before
        return f"the time of day went {moved / 1e9:+.6f} s away from the monotonic clock"

    def undo(self, transfer: Transfer) -> None:
        """Set it right, by the time that has passed."""
        if self._left:
            clock.step(-self._left)
            self._left = 0


class DeviceRemoved(Action):
    """A passthrough device is taken off the host's bus. cut: the channel that is held breaks, too.

    For a host that nobody else needs.
    """

    breaks = "the host's bus: a passthrough device is taken off it"
    side = "source"

    def __init__(self, removal: Removal, *, cut: bool = False) -> None:
        self.name = "device-removed-channel-cut" if cut else "device-removed"
        self._removal = removal
        self._cut = cut

    def act(self, transfer: Transfer, station: Station) -> str:
        """Take it away: it stays on the bus until QEMU lets go of it."""
        self._removal.begin()
        if self._cut:
            station.relay.cut()
        return "the kernel waits for QEMU to let go of the device"


class DeviceError(Action):
    """A passthrough device reports an error that its user has to know of (PCIe AER, not fatal).

    For a host that nobody else needs.
    """

    name = "device-error"
    breaks = "a passthrough device, by its own report"
    side = "source"

    def __init__(self, address: str) -> None:
        self._address = address

    def act(self, transfer: Transfer, station: Station) -> str:
        """Have it report one, and wait until the kernel has it."""
        aer.report_error(self._address)
        return f"the kernel has counted {aer.errors(self._address)} errors of the device"
