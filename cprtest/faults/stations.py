# SPDX-License-Identifier: GPL-2.0-or-later
"""Stations: instants at which a transfer is held, on evidence, so that anything can be done to it there.

The relays hold the channels; both QEMUs are where they are because they wait for each other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from cprtest.faults.relay import Relay, Way
    from cprtest.transfer import Transfer

# The target's messages on the main channel's way back (migration/savevm.c): two acknowledgements of 8 bytes,
# the second when it has loaded everything (patch 7 of the reference), then SHUT with its verdict.
_LOADED = 8
MIDDLE = 100_000
"""Bytes: about the middle of the stream of a guest with one disk."""


class Station:
    """An instant. `name`; `phase`: the phase that is under way; `where`: what is held, for the evidence."""

    name = ""
    phase = ""
    where = ""

    _way: Way

    def arm(self, transfer: Transfer) -> None:
        """Before the target is started."""
        raise NotImplementedError

    def wait(self) -> None:
        """Wait until the transfer is there."""
        self._way.wait_reached()

    def release(self) -> None:
        """Let the transfer go on."""
        self._way.release()

    relay: Relay


class Handover(Station):
    """The descriptors have left the source; the target has not read them."""

    name = phase = "handover"
    where = "the cpr state waits in the source's socket"

    def arm(self, transfer: Transfer) -> None:
        """Hold the cpr channel before its first byte."""
        self.relay = transfer.relay("cpr")
        self._way = self.relay.forward
        self._way.hold_at = 0


class Acquired(Station):
    """The target has its devices and has closed the cpr channel; the source does not know yet."""

    name = phase = "acquire"
    where = "the target has closed the cpr channel"

    def arm(self, transfer: Transfer) -> None:
        """Hold the end of the cpr channel back."""
        self.relay = transfer.relay("cpr")
        self._way = self.relay.back
        self._way.hold_end = True


class Streaming(Station):
    """Half of the device state has gone through the main channel."""

    name = phase = "stream"
    where = "half of the device state has gone through"

    def arm(self, transfer: Transfer) -> None:
        """Hold the main channel in its middle."""
        self.relay = transfer.relay("main")
        self._way = self.relay.forward
        self._way.hold_at = MIDDLE


class Loaded(Station):
    """The target has loaded everything; its acknowledgement has not reached the source."""

    name = "loaded"
    phase = "complete"
    where = "the target's acknowledgement waits"

    def arm(self, transfer: Transfer) -> None:
        """Hold the acknowledgement back."""
        self.relay = transfer.relay("main")
        self._way = self.relay.back
        self._way.hold_at = _LOADED


class Committed(Station):
    """The source has committed to the target; the target does not know yet that it is to run the guest."""

    name = "committed"
    phase = "complete"
    where = "the source's last bytes wait"

    def arm(self, transfer: Transfer) -> None:
        """Let the acknowledgement through, and nothing of what the source answers."""
        self.relay = transfer.relay("main")
        self._way = self.relay.forward
        back = self.relay.back
        back.hold_at = _LOADED

    def wait(self) -> None:
        """Wait for the acknowledgement, hold the other way, and let it through."""
        self.relay.back.wait_reached()
        self._way.hold_here()
        self.relay.back.release()
        self._way.wait_reached()


class Action:
    """What is done to a transfer that is held. name; breaks; side."""

    name = ""
    breaks = ""
    side = ""

    def act(self, transfer: Transfer, station: Station) -> str:
        """Do it. Returns how we know that it was done, one sentence."""
        raise NotImplementedError

    def released(self, transfer: Transfer) -> None:
        """The transfer has been let go."""

    def undo(self, transfer: Transfer) -> None:
        """Take back what would outlive the transfer."""


class Meanwhile(Action):
    """Something that happens while the transfer is held, and breaks nothing. said: what happened."""

    side = "source"

    def __init__(self, name: str, said: str, do: Callable[[Transfer], object]) -> None:
        self.name = name
        self.breaks = f"nothing: {said} meanwhile"
        self._said, self._do = said, do

    def act(self, transfer: Transfer, station: Station) -> str:
        del station
        self._do(transfer)
        return self._said


class At(Fault):
    """An action at a station."""

    def __init__(self, station: Station, action: Action) -> None:
        self._station = station
        self._action = action
        self.name = f"{action.name}-at-{station.name}"
        self.breaks = action.breaks
        self.phase = station.phase
        self.side = action.side

    def arm(self, transfer: Transfer) -> None:
        """Have the station hold the transfer."""
        self._station.arm(transfer)

    def strike(self, transfer: Transfer) -> None:
        """Wait for the station, act, and let the transfer go."""
        self._station.wait()
        begun = time.monotonic_ns()  # a cancellation is rolled back before it is answered
        done = self._action.act(transfer, self._station)
        self.struck(f"{self._station.where}; {done}", begun)
        self._station.release()
        self._action.released(transfer)

    def undo(self, transfer: Transfer) -> None:
        """Let everything go."""
        try:
            self._action.undo(transfer)
        finally:
            if hasattr(self._station, "relay"):
                self._station.release()
