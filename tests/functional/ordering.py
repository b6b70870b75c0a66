# SPDX-License-Identifier: GPL-2.0-or-later
"""The source stops and gives its devices up before their descriptors leave."""

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

    @needs("kvm", "vhost-net", "tun", "netns", "qemu:trace:vhost_cpr_release")
    def test_vhost_is_released_before_handover(self):
        """The source gives its vhost device up between the stop and the handover (C-04, C-10)."""
        outcome = self.transfer(self.boot(net=Tap(vhost=True)))
        outcome.assert_completed()
        outcome.timeline.assert_order("stop", "setup", "release", "handover", "acquire", "stream", "resume")
