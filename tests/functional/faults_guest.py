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

CANCELLED = Expected(reported=("cancelled",))


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

    def pause(self, guest):
        guest.machine.qmp.command("stop")

    def still_paused(self, guest):
        self.assertEqual(guest.machine.run_state(), "paused")
        guest.machine.qmp.command("cont")
