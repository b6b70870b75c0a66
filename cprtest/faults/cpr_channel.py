# SPDX-License-Identifier: GPL-2.0-or-later
"""The cpr channel: not there, closed, cut or changed at a byte, descriptors lost or mixed up.

What goes through it (migration/cpr.c of QEMU): magic, version, then for each descriptor a 1, the length of
its name, the name, its number, and a byte that carries it (SCM_RIGHTS);
a 0 ends the list, subsections follow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault

if TYPE_CHECKING:
    from cprtest.faults.relay import Edit, Relay
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer

_MAGIC = b"QCPR"


@dataclass(frozen=True)
class Boundary:
    """The position at which a field of the cpr state begins."""

    position: int
    field: str


def fields(state: bytes) -> list[Boundary]:
    """The fields of a recorded cpr state. Raises ValueError for what is none."""
    if state[:4] != _MAGIC:
        raise ValueError(f"no cpr state: it begins with {state[:4]!r}")
    found = [Boundary(0, "magic"), Boundary(4, "version")]
    at, number = 8, 0
    while state[at]:
        length = int.from_bytes(state[at + 1 : at + 5], "big")
        places = {"more": at, "namelen": at + 1, "name": at + 5, "id": at + 5 + length, "fd": at + 9 + length}
        found += [Boundary(place, f"{field}-{number}") for field, place in places.items()]
        at, number = at + 10 + length, number + 1
    return [
        *found,
        Boundary(at, "end-of-list"),
        Boundary(at + 1, "subsection"),
        Boundary(len(state) - 1, "last"),
    ]


class CprFault(Fault):
    """A fault of the cpr channel that lies in a relay."""

    phase = "handover"
    side = "source"
    breaks = "the cpr channel"

    relay: Relay

    def arm(self, transfer: Transfer) -> None:
        """Put a relay into the channel."""
        self.relay = transfer.relay("cpr")
        self.plan(self.relay)

    def plan(self, relay: Relay) -> None:
        """Tell the relay what to do."""


class Recorded(CprFault):
    """Nothing is broken: the state is recorded, so that other faults know where fields begin."""

    name = "recorded"

    def confirm(self, outcome: Outcome) -> None:
        """It went through."""
        if self.relay.forward.passed:
            self.struck(f"{self.relay.forward.passed} bytes went through", outcome.since)


class Refused(Fault):
    """Nobody listens on the cpr channel."""

    name = "cpr-refused"
    breaks = "the cpr channel's address"
    phase = "handover"
    side = "source"

    def ready(self, transfer: Transfer) -> None:
        """The source is sent to a socket that is not there."""
        transfer.cpr["path"] += "-nowhere"

    def confirm(self, outcome: Outcome) -> None:
        """The source says so."""
        if "Failed to connect" in outcome.refusal:
            self.struck(f"QEMU said {outcome.refusal}", outcome.since)


class Cut(CprFault):
    """The cpr channel is cut after `count` bytes of the state."""

    def __init__(self, count: int, name: str = "") -> None:
        self.name = f"cpr-cut-{name or f'after-{count}'}"
        self._count = count

    def plan(self, relay: Relay) -> None:
        """Cut at that byte."""
        relay.forward.cut_at = self._count

    def strike(self, transfer: Transfer) -> None:
        """Wait for the cut."""
        way = self.relay.forward
        way.wait_reached()
        self.struck(f"the relay cut the {way.name} after {self._count} bytes", way.reached_at)


class ClosedEarly(CprFault):
    """The channel is closed before the target has read the state: to the source it looks ready."""

    name = "cpr-closed-before-target-is-ready"

    def plan(self, relay: Relay) -> None:
        """Keep the target from the state's first byte."""
        relay.forward.hold_at = 0

    def strike(self, transfer: Transfer) -> None:
        """Close it while the state waits."""
        self.relay.forward.wait_reached()
        self.relay.cut()
        self.struck("the relay closed the cpr channel with the whole state unread")


class NeverClosed(CprFault):
    """The target is ready, and its end of the cpr channel stays open; the user cancels (C-21)."""

    name = "cpr-never-closed-cancelled"
    phase = "acquire"
    side = "target"

    def plan(self, relay: Relay) -> None:
        """Hold the end back."""
        relay.back.hold_end = True

    def strike(self, transfer: Transfer) -> None:
        """Cancel when the target is ready."""
        self.relay.back.wait_reached()
        self.struck(
            "the target had closed the cpr channel, and the source did not know", self.relay.back.reached_at
        )
        transfer.source.qmp.command("migrate_cancel")

    def undo(self, transfer: Transfer) -> None:
        """Let the end through."""
        if hasattr(self, "relay"):
            self.relay.cut()


class Slow(CprFault):
    """The cpr channel is slow: `block` bytes at a time, with `pace` seconds before each."""

    def __init__(self, block: int, pace: float) -> None:
        self.name = f"cpr-slow-{block}"
        self._block, self._pace = block, pace

    def plan(self, relay: Relay) -> None:
        """Slow it down."""
        relay.forward.block, relay.forward.pace = self._block, self._pace

    def confirm(self, outcome: Outcome) -> None:
        """It went through in small blocks."""
        if self.relay.forward.passed:
            self.struck(f"{self.relay.forward.passed} bytes went in blocks of {self._block}", outcome.since)


class Changed(CprFault):
    """Bytes from `at` on are replaced by `by`."""

    def __init__(self, name: str, at: int, by: bytes) -> None:
        self.name = f"cpr-changed-{name}"
        self._at, self._by = at, by

    def plan(self, relay: Relay) -> None:
        """Change them on the way."""
        relay.forward.edit = self._change

    def _change(self, position: int, data: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        start, end = max(self._at, position), min(self._at + len(self._by), position + len(data))
        if start >= end:
            return data, fds
        self.struck(f"bytes {start} to {end - 1} of the cpr state were changed")
        new = self._by[start - self._at : end - self._at]
        return data[: start - position] + new + data[end - position :], fds


class Descriptors(CprFault):
    """The descriptors of the state are lost, doubled, mixed up or replaced: `how`, for number `number`."""

    HOW = (
        "missing",
        "doubled",
        "sent-for-the-next",
        "replaced-by-null",
        "replaced-by-pipe",
        "replaced-by-empty-memfd",
    )

    def __init__(self, how: str, number: int = 0) -> None:
        self.name = f"cpr-descriptor-{number}-{how}"
        self.breaks = f"descriptor {number} of the cpr state: {how}"
        self._how = how
        self._number = number
        self._seen = 0
        self._own: list[int] = []

    def plan(self, relay: Relay) -> None:
        """Change them on the way."""
        edit: Edit = self._edit
        relay.forward.edit = edit

    def _edit(self, position: int, data: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        if not fds:
            return data, fds
        number, self._seen = self._seen, self._seen + 1
        if self._how == "sent-for-the-next":
            return data, self._repeat(number, fds)
        if number != self._number:
            return data, fds
        self.struck(f"descriptor {number} of the cpr state: {self._how}")
        if self._how == "missing":
            return data, []
        if self._how == "doubled":
            return data, [*fds, *fds]
        self._own.append(self._replacement())
        return data, self._own[-1:]

    def _replacement(self) -> int:
        if self._how == "replaced-by-pipe":
            reading, writing = os.pipe()
            self._own.append(writing)
            return reading
        if self._how == "replaced-by-null":
            return os.open(os.devnull, os.O_RDWR)
        return os.memfd_create("empty")

    def _repeat(self, number: int, fds: list[int]) -> list[int]:
        if number == self._number:
            self._own = [os.dup(fd) for fd in fds]
        elif number == self._number + 1:
            self.struck(f"descriptor {number - 1} of the cpr state was sent for number {number}")
            return list(self._own)
        return fds

    def undo(self, transfer: Transfer) -> None:
        """Close what was made."""
        while self._own:
            os.close(self._own.pop())
