# SPDX-License-Identifier: GPL-2.0-or-later
"""The main channel: not there, never answered, cut, changed or stalled at a byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from cprtest.faults.fault import Fault
from cprtest.faults.relay import Relay

if TYPE_CHECKING:
    from cprtest.faults.relay import Way
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer


_FOOTER = 5
"""Bytes of a section's footer."""


class MainFault(Fault):
    """A fault of the main channel that lies in a relay."""

    phase = "stream"
    side = "source"
    breaks = "the main channel"

    relay: Relay
    tcp = False

    def by_tcp(self, *, reset: bool = False) -> Self:
        """The same for a channel by TCP. reset: cut by RST."""
        self.tcp, self._reset = True, reset
        self.name += "-tcp" + ("-reset" if reset else "")
        return self

    _reset = False

    def arm(self, transfer: Transfer) -> None:
        """Put a relay into the channel."""
        self.relay = transfer.relay_by_tcp() if self.tcp else transfer.relay("main")
        self.relay.reset = self._reset
        self.plan(self.relay)

    def plan(self, relay: Relay) -> None:
        """Tell the relay what to do."""

    def wait_cut(self, way: Way, evidence: str) -> None:
        """Wait until the relay has cut."""
        way.wait_reached()
        self.struck(evidence, way.reached_at)


class Recorded(MainFault):
    """Nothing is broken: what goes through is recorded, so that other faults know where sections begin."""

    name = "recorded"

    def confirm(self, outcome: Outcome) -> None:
        """Something went through."""
        if self.relay.forward.passed:
            self.struck(f"{self.relay.forward.passed} bytes went through", outcome.since)


class Cut(MainFault):
    """The main channel is cut after `count` bytes of it. back: of the way back to the source."""

    def __init__(self, count: int, *, back: bool = False, name: str = "") -> None:
        self.name = f"main-{'back-' if back else ''}cut-{name or f'after-{count}'}"
        self._count = count
        self._back = back

    def plan(self, relay: Relay) -> None:
        """Cut at that byte."""
        way = relay.back if self._back else relay.forward
        way.cut_at = self._count

    def strike(self, transfer: Transfer) -> None:
        """Wait for the cut."""
        way = self.relay.back if self._back else self.relay.forward
        self.wait_cut(way, f"the relay cut the {way.name} after {self._count} bytes")


class Changed(MainFault):
    """Bytes `at` and following are replaced by `by` (inverted if None): what the target loads is garbage."""

    def __init__(self, at: int, by: bytes | None = None, *, name: str = "") -> None:
        self.name = f"main-changed-{name or f'at-{at}'}"
        self._at = at
        self._by = by

    def plan(self, relay: Relay) -> None:
        """Change it on the way."""
        length = 1 if self._by is None else len(self._by)

        def change(position: int, data: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
            start, end = max(self._at, position), min(self._at + length, position + len(data))
            if start >= end:
                return data, fds
            changed = bytearray(data)
            for n in range(start, end):
                changed[n - position] = (
                    changed[n - position] ^ 0xFF if self._by is None else self._by[n - self._at]
                )
            self.struck(f"byte {start} of the main channel was changed")
            return bytes(changed), fds

        relay.forward.edit = change


class BoundaryChanged(MainFault):
    """A byte between two sections is inverted: the first of section `number`, or of the footer before it.

    It is found in the very stream that it is changed in: sections are not always of the same length, as a
    device's state has the requests that are under way.
    """

    def __init__(self, number: int, *, footer: bool = False) -> None:
        self.name = f"main-changed-{'footer' if footer else 'section'}-{number}"
        self._number = number
        self._before = _FOOTER if footer else 0

    def plan(self, relay: Relay) -> None:
        """Change it on the way."""
        seen = bytearray()
        changed = False

        def change(position: int, data: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
            nonlocal changed
            if changed:
                return data, fds
            seen.extend(data)
            starts = section_boundaries(bytes(seen))
            if self._number >= len(starts):
                return data, fds
            # Of a footer that comes in two pieces the first one has gone.
            place = max(starts[self._number] - self._before - position, 0)
            if place < len(data):
                changed = True
                self.struck(f"byte {position + place} of the main channel was changed")
                data = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
            return data, fds

        relay.forward.edit = change


class Stalled(MainFault):
    """The main channel stands still after `count` bytes; the user cancels."""

    def __init__(self, count: int, *, name: str = "") -> None:
        self.name = f"main-stalled-{name or f'after-{count}'}-cancelled"
        self._count = count

    def plan(self, relay: Relay) -> None:
        """Stand still there."""
        relay.forward.hold_at = self._count

    def strike(self, transfer: Transfer) -> None:
        """Cancel when it stands."""
        self.relay.forward.wait_reached()
        self.struck(f"the main channel stood after {self._count} bytes", self.relay.forward.reached_at)
        transfer.source.qmp.command("migrate_cancel")

    def undo(self, transfer: Transfer) -> None:
        """Let what is left go, or end."""
        if hasattr(self, "relay"):
            self.relay.cut()


class Slow(MainFault):
    """The main channel is slow: `block` bytes at a time, with `pace` seconds before each."""

    def __init__(self, block: int, pace: float) -> None:
        self.name = f"main-slow-{block}"
        self._block = block
        self._pace = pace

    def plan(self, relay: Relay) -> None:
        """Slow it down."""
        relay.forward.block, relay.forward.pace = self._block, self._pace

    def confirm(self, outcome: Outcome) -> None:
        """The stream took as long as it had to."""
        took = outcome.timeline.between("stream", "complete") or 0
        passed = self.relay.forward.passed
        least = (passed // self._block - 2) * self._pace  # its beginning and end may be in the first and last
        if took / 1e9 >= least > 0:
            self.struck(f"{passed} bytes went through in blocks of {self._block}", outcome.since)


class NoSuchProgram(Fault):
    """The main channel is a program that cannot be started: it is refused at once, without any connect()."""

    name = "main-program-missing"
    breaks = "the main channel's address"
    phase = "stream"
    side = "source"

    def ready(self, transfer: Transfer) -> None:
        """Name one that there is not."""
        main = {"channel-type": "main", "addr": {"transport": "exec", "args": ["/nonexistent/program"]}}
        transfer.arguments = {"channels": [main, transfer.channels[1]]}

    def confirm(self, outcome: Outcome) -> None:
        """The source says that it could not start it."""
        refused = outcome.first("source", "migrate_error")
        if refused:
            self.struck(f"the source traced {refused.data['text']}", refused.t)


def section_boundaries(stream: bytes) -> list[int]:
    """Positions at which a section of a migration stream begins, or what is before the first.

    From the stream's own footers: 0x7e and the section's number, after which another section begins
    (migration/savevm.c, migration/migration.h of QEMU).
    """
    footer = rb"\x7e\x00\x00\x00[\x00-\x7f](?=[\x00-\x08]|\Z)"
    starts = [found.end() for found in re.finditer(footer, stream)]
    return [0, 4, 8, *(start for start in starts if start > 8)]
