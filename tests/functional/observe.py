# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seen from outside QEMU agrees with what QEMU says of the hand-over."""

from cprtest.faults.target import MainRefused
from cprtest.needs import needs
from cprtest.observe.heartbeat import Heartbeat
from cprtest.observe.pause import assert_clock_went_on, assert_paused, assert_silent_before
from cprtest.test import CprTest


@needs("qemu:cpr-transfer")
class Pause(CprTest):
    """
    :avocado: tags=full
    """

    def test_guest_rests_from_stop_to_resume(self):
        """The guest's heartbeat pauses between QEMU's stop and resume, and goes on where it was (C-10)."""
        self.observe(Heartbeat(busy=True))
        outcome = self.transfer(self.boot())
        outcome.assert_completed()
        assert_paused(outcome.timeline)

    def test_guest_clock_rests_with_it(self):
        """The guest's clock neither jumps nor stands still across the hand-over (C-18)."""
        self.observe(Heartbeat())
        outcome = self.transfer(self.boot())
        outcome.assert_completed()
        assert_clock_went_on(outcome.timeline)

    def test_every_vcpu_rests(self):
        """The same for each of two vCPUs: none runs on, none is left behind."""
        self.observe(Heartbeat(vcpus=2, busy=True))
        outcome = self.transfer(self.boot(vcpus=2))
        outcome.assert_completed()
        assert_paused(outcome.timeline, vcpus=2)

    def test_guest_rests_before_handover(self):
        """The guest's last beat comes before its descriptors leave, whatever QEMU says (D-003, C-10)."""
        self.observe(Heartbeat(busy=True))
        outcome = self.transfer(self.boot())
        outcome.assert_completed()
        assert_silent_before(outcome.timeline, "handover")

    @needs("qemu:trace:migration_cpr_stop")
    def test_guest_rests_until_rolled_back(self):
        """A transfer that fails pauses the guest once: it beats again on the source, after the resume."""
        self.observe(Heartbeat(busy=True))
        outcome = self.transfer(self.boot(), fault=MainRefused())
        outcome.assert_rolled_back()
        assert_paused(outcome.timeline)
