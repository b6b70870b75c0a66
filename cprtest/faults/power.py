# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest does by itself at about the time of its hand-over: it reboots, panics, or goes off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault
from cprtest.limits import stretched, wait_until

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.machine.process import Machine
    from cprtest.outcome import Outcome
    from cprtest.timeline.event import Event
    from cprtest.transfer import Transfer


class _ByItself(Fault):
    """`guest` does so `after` ms (stretched) after it was told, and is handed over meanwhile.

    seen: `migrate` is given when QEMU has announced it, so that firmware is handed over, or a machine that is
    off; else at once. In the pause nothing runs in the guest, so it does so before that or after it.
    """

    breaks = "the guest's run"
    phase = "stop"
    side = "source"
    how = ""
    command = ""
    event = "RESET"
    """What QEMU announces then."""

    def __init__(self, guest: Guest, after: int, *, seen: bool = False) -> None:
        self.name = f"guest-{self.how}-after-{after}-ms{'-before-migrate' if seen else ''}"
        self._guest = guest
        self._seen = seen
        self._command = f"(usleep {stretched(1000 * after):.0f}; {self.command}) </dev/null >/dev/null 2>&1 &"

    def ready(self, transfer: Transfer) -> None:
        """Wind it up."""
        since = time.monotonic_ns()
        self._guest.run(self._command)
        if self._seen:
            self._wait_for_event(since, transfer.source)

    def confirm(self, outcome: Outcome) -> None:
        """QEMU announces what the guest asked for, on either side."""
        self._wait_for_event(outcome.since, outcome.source, outcome.target)

    def _wait_for_event(self, since: int, *machines: Machine) -> None:
        def announced() -> list[Event]:
            events = [e for machine in machines for e in machine.qmp.events]
            return [e for e in events if e.name == self.event and e.t >= since and e.data["guest"]]

        first = wait_until(f"{self.event}, which the guest asks for", announced, 20)[0]
        self.struck(f"{first.actor} announced {self.event}, {first.data['reason']}", first.t)


class Reboots(_ByItself):
    """It reboots without a word to anybody (reboot -f)."""

    how = "reboots"
    command = "reboot -f"


class Panics(_ByItself):
    """Its kernel panics (sysrq c), and has been told to reboot then (panic=-1)."""

    how = "panics"
    command = "echo c >/proc/sysrq-trigger"


class PowersOff(_ByItself):
    """It switches itself off (poweroff -f). Both QEMUs are told to stay then."""

    how = "powers-off"
    command = "poweroff -f"
    event = "SHUTDOWN"

    def arm(self, transfer: Transfer) -> None:
        """Have the target stay."""
        transfer.plan.extra += ["-action", "shutdown=pause"]

    def ready(self, transfer: Transfer) -> None:
        """Have the source stay, and wind it up."""
        transfer.source.qmp.command("set-action", shutdown="pause")
        super().ready(transfer)
