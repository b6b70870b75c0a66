# SPDX-License-Identifier: GPL-2.0-or-later
"""What an observer is: one source of evidence about a transfer, outside of QEMU where possible.

A test adds observers before it boots: `self.observe(Gate())`. The test bed tells each of them about every
QEMU it starts and about the beginning and end of every transfer, and puts what they return on the timeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.machine.process import Machine
    from cprtest.timeline.event import Event


class Observer:
    """Sees nothing: what an observer does not need it leaves as it is here.

    The order of calls: `prefix` and `started` for each QEMU, `booted` once the guest runs, then for each
    transfer `arm` (there is no target yet), `begin` (the target has been started, `migrate` has not been
    given), `end` (both sides have settled), and `close` at the end of the test whatever happened.
    """

    def prefix(self, actor: str) -> tuple[list[str], list[int]]:
        """Words to put before QEMU's command line, and descriptors it inherits. `actor`: source or target."""
        del actor
        return [], []

    def started(self, machine: Machine) -> None:
        """A QEMU has been started."""

    def booted(self, guest: Guest) -> None:
        """The guest runs on its first QEMU."""

    def arm(self, source: Machine) -> None:
        """A transfer is coming, its target has not been started: what takes time is done here.

        A target that is started and then kept waiting is further on when the guest is stopped: the pause gets
        shorter.
        """

    def begin(self, source: Machine, target: Machine) -> None:
        """A transfer is about to begin."""

    def end(self) -> list[Event]:
        """It has ended: what was seen of it, on CLOCK_MONOTONIC. Raises CprError where evidence was lost."""
        return []

    def intact(self) -> None:
        """Asked at the end of each test, passed or failed. Raises CprError if the verdict is void."""

    def close(self) -> None:
        """Give everything back. Safe to call twice."""
