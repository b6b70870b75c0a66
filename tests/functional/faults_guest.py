# SPDX-License-Identifier: GPL-2.0-or-later
"""The run state of before the transfer is the one after it: a paused guest stays paused (C-11)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import cpr_channel as cpr
from cprtest.faults import main_channel as main
from cprtest.faults.monitor import Command
from cprtest.faults.process import Killed
from cprtest.faults.stations import Acquired, At, Handover, Streaming
from cprtest.faults.target import MainRefused
from cprtest.faulttest import FaultTest
from cprtest.needs import needs
from cprtest.timeline.timeline import tag

CANCELLED = Expected(reported=("cancelled",))
ATTEMPTS = 8
"""Enough for what an earlier failure left behind to come up, if it comes within a second."""


@needs("qemu:cpr-transfer")
class GuestState(FaultTest):
    """
    :avocado: tags=full
    """

    def test_paused(self):
        """A guest that was paused before a transfer that fails is paused after it, whatever failed (C-11)."""
        faults = [
            cpr.Refused(),
            cpr.Cut(0),
            MainRefused(),
            main.Cut(0),
            main.Cut(100_000),
            At(Handover(), Killed("target")),
            At(Streaming(), Killed("target")),
        ]
        cancelled = [At(station(), Command("migrate_cancel")) for station in (Handover, Acquired, Streaming)]
        cases = [Case(fault, before=self.pause, after=self.still_paused) for fault in faults]
        cases += [Case(fault, CANCELLED, before=self.pause, after=self.still_paused) for fault in cancelled]
        self.strike(cases)

    def test_paused_after_a_failure(self):
        """A guest that is paused after a transfer that failed stays so, whatever else fails (C-11, C-35)."""
        guest = self.boot()
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        self.pause(guest)
        seen = len(guest.machine.qmp.events)
        for _ in range(ATTEMPTS):
            self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        resumed = [event for event in guest.machine.qmp.events[seen:] if event.name == "RESUME"]
        self.assertEqual(resumed, [], f"who resumed it? {tag('rollback')}")
        self.still_paused(guest)

    def pause(self, guest):
        guest.machine.qmp.command("stop")

    def still_paused(self, guest):
        self.assertEqual(guest.machine.run_state(), "paused")
        guest.machine.qmp.command("cont")
