# SPDX-License-Identifier: GPL-2.0-or-later
"""Each step of the hand-over comes when it must."""

from cprtest.needs import needs
from cprtest.test import CprTest, Tap


@needs("qemu:cpr-transfer")
class Ordering(CprTest):
    """
    :avocado: tags=smoke
    """

    def test_source_stops_before_handover(self):
        """The VM is stopped and SETUP notifiers have run before the descriptors leave (D-003)."""
        outcome = self.transfer(self.boot())
        outcome.assert_completed()
        outcome.timeline.assert_order("stop", "setup", "handover", "acquire", "stream", "resume")

    @needs("qemu:cpr-exec")
    def test_exec(self):
        """cpr-exec."""
        guest = self.boot()
        outcome = self.transfer(guest, mode="cpr-exec")
        outcome.assert_completed()
        outcome.timeline.assert_order()
        guest.run("true")
        outcome = self.transfer(guest, mode="cpr-exec")
        outcome.assert_completed()
        guest.run("true")
