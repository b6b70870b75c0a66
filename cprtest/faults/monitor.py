# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor: commands that a user or management gives in the middle of a transfer, or gives wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cprtest.faults.fault import Fault
from cprtest.faults.stations import Action, Station
from cprtest.limits import stretched, wait_until
from cprtest.machine.qmp import CommandFailed

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer


class Command(Action):
    """A QMP command at a station. `refused`: QEMU has to refuse it, else it has to accept it."""

    def __init__(
        self, command: str, *, refused: bool = False, side: str = "source", name: str = "", **arguments: Any
    ) -> None:
        self.side = side
        self.name = f"{side}-{name or command.replace('_', '-')}"
        self.breaks = f"the run of things, by {command} on the {side}"
        self._command = command
        self._refused = refused
        self._arguments = arguments

    def act(self, transfer: Transfer, station: Station) -> str:
        """Give the command. Raises AssertionError when it is answered the other way."""
        machine = transfer.source if self.side == "source" else transfer.target
        if self.side == "target":
            machine.ready()
        try:
            machine.qmp.command(self._command, **self._arguments)
        except CommandFailed as error:
            if not self._refused:
                raise AssertionError(
                    f"{self._command} at {station.name} should be accepted: {error}"
                ) from error
            return f"QEMU refused: {error}"
        if self._refused:
            raise AssertionError(f"{self._command} at {station.name} should be refused, and was accepted")
        return f"QEMU accepted {self._command}"


class CancelAfter(Fault):
    """The user cancels `ms` (stretched) after `migrate`, whatever the transfer is at by then.

    The only fault that waits for a time: for instants that no station holds.
    """

    breaks = "the run of things, by migrate_cancel"
    side = "source"

    def __init__(self, ms: float) -> None:
        self.name = f"source-migrate-cancel-after-{ms:.1f}-ms"
        self._seconds = stretched(ms / 1000)

    def strike(self, transfer: Transfer) -> None:
        """Give the command."""
        time.sleep(self._seconds)
        begun = time.monotonic_ns()
        transfer.source.qmp.command("migrate_cancel")
        self.struck(f"QEMU accepted migrate_cancel {self._seconds * 1000:.1f} ms after migrate", begun)


class MigrateAgain(Action):
    """A second `migrate` with the same channels while the first is under way: refused."""

    name = "second-migrate"
    breaks = "the run of things, by a second migrate"
    side = "source"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Give it. Raises AssertionError when it is accepted."""
        try:
            transfer.source.qmp.command("migrate", channels=transfer.channels)
        except CommandFailed as error:
            return f"QEMU refused: {error}"
        raise AssertionError(f"a second migrate at {station.name} was accepted")


class Capability(Fault):
    """The source is set to a capability that the target is not set to; when it has failed the target ends.

    (A target of a failed transfer that still waits would keep what both use.)
    """

    phase = "stream"
    side = "source"

    def __init__(self, capability: str) -> None:
        self.name = f"source-alone-{capability}"
        self.breaks = f"the capability {capability}, which only the source has"
        self._capability = capability

    def _set(self, transfer: Transfer, state: bool) -> None:
        wanted = [{"capability": self._capability, "state": state}]
        transfer.source.qmp.command("migrate-set-capabilities", capabilities=wanted)

    def ready(self, transfer: Transfer) -> None:
        """Set it."""
        self._set(transfer, True)
        self._seen = len(transfer.source.qmp.events)

    def strike(self, transfer: Transfer) -> None:
        """Wait for the end, and end a target that did not get the guest."""
        ends = ["failed", "completed"]
        event = transfer.source.qmp.wait_any("MIGRATION", "status", ends, 20, self._seen)
        status = event.data["status"]
        target = f"the target ended, {transfer.target.kill()}" if status == "failed" else "the target has it"
        self.struck(f"with {self._capability} the source is {status}; {target}")

    def undo(self, transfer: Transfer) -> None:
        """Take it back, as soon as the source lets us: it has to clean up with it first (D-015)."""

        def taken_back() -> bool:
            try:
                self._set(transfer, False)
            except CommandFailed:
                return False
            return True

        if transfer.source.run_state():
            wait_until("the source to take a capability back", taken_back, 10)


class BadArguments(Fault):
    """`migrate` with arguments that are wrong: QEMU has to refuse it before anything happens.

    `arguments` makes them of the transfer's own channels.
    """

    phase = "stop"
    side = "source"

    def __init__(
        self,
        name: str,
        arguments: Callable[[list[dict[str, Any]]], dict[str, Any]],
        before: Callable[[Any], None] | None = None,
        after: Callable[[Any], None] | None = None,
    ) -> None:
        self.name = f"migrate-{name}"
        self.breaks = f"migrate's arguments: {name}"
        self._arguments = arguments
        self._before = before
        self._after = after

    def ready(self, transfer: Transfer) -> None:
        """Have the wrong arguments given."""
        if self._before:
            self._before(transfer.source.qmp)
        transfer.arguments = self._arguments(transfer.channels)

    def undo(self, transfer: Transfer) -> None:
        """Take back what was set before."""
        if self._after and transfer.source.exit() is None:
            self._after(transfer.source.qmp)

    def confirm(self, outcome: Outcome) -> None:
        """`migrate` was refused."""
        if outcome.refusal:
            self.struck(f"QEMU refused: {outcome.refusal}", outcome.since)
        elif outcome.states["source"] is None:
            self.struck(f"the source ended: {outcome.messages['source']}", outcome.since)
