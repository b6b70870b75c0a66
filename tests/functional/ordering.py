# SPDX-License-Identifier: GPL-2.0-or-later
"""The source stops and gives its devices up before their descriptors leave."""

from cprtest.needs import needs
from cprtest.test import CprTest


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
