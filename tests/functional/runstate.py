# SPDX-License-Identifier: GPL-2.0-or-later
"""The run state is handed over with the guest (C-11)."""

from cprtest.needs import needs
from cprtest.test import CprTest


@needs("qemu:cpr-transfer")
class RunState(CprTest):
    """
    :avocado: tags=smoke
    """

    def test_running_guest_runs_on_the_target(self):
        """A running guest runs on the target, and the source is left in postmigrate."""
        outcome = self.transfer(self.boot(), keep_source=True)
        outcome.assert_completed()
        self.assertEqual(outcome.states, {"source": "postmigrate", "target": "running"})

    def test_paused_guest_stays_paused(self):
        """A guest that was paused arrives paused, and runs after `cont` as if nothing had happened."""
        guest = self.boot()
        guest.machine.qmp.command("stop")
        outcome = self.transfer(guest, keep_source=True)
        outcome.assert_completed()
        self.assertEqual(outcome.states, {"source": "postmigrate", "target": "paused"})
        outcome.target.qmp.command("cont")
        guest.run("true")
