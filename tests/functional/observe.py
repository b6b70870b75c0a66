# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seen from outside QEMU agrees with what QEMU says of the hand-over."""

from cprtest.faults.target import MainRefused
from cprtest.needs import needs
from cprtest.observe.heartbeat import Heartbeat
from cprtest.observe.pause import (
    assert_clock_went_on,
    assert_never_ran,
    assert_nothing_lost,
    assert_paused,
    assert_silent,
)
from cprtest.observe.probe import Probe
from cprtest.test import CprTest, Tap


@needs("qemu:cpr-transfer")
class Pause(CprTest):
    """
    :avocado: tags=full
    """

    def test_guest_rests_from_stop_to_resume(self):
        """The guest's heartbeat pauses between QEMU's stop and resume, and goes on where it was (C-10).

        :avocado: tags=smoke
        """
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

    def test_guest_rests_from_handover_on(self):
        """When its descriptors leave the guest has stopped; it beats again after the resume (D-003, C-10)."""
        self.observe(Heartbeat(busy=True))
        outcome = self.transfer(self.boot())
        outcome.assert_completed()
        assert_silent(outcome.timeline, "handover", "resume")

    def test_paused_guest_does_not_run(self):
        """A guest that was paused is handed over without a single beat (C-11)."""
        self.observe(Heartbeat(busy=True))
        guest = self.boot()
        guest.machine.qmp.command("stop")
        outcome = self.transfer(guest)
        assert_never_ran(outcome.timeline)
        outcome.assert_completed()

    @needs("qemu:trace:migration_cpr_stop")
    def test_guest_rests_until_rolled_back(self):
        """A transfer that fails pauses the guest once: it beats again on the source, after the resume."""
        self.observe(Heartbeat(busy=True))
        outcome = self.transfer(self.boot(), fault=MainRefused())
        outcome.assert_rolled_back()
        assert_paused(outcome.timeline)


@needs("qemu:cpr-transfer", "tun", "netns")
class Packets(CprTest):
    """
    :avocado: tags=full
    """

    @needs("qemu:tap-cpr")
    def test_guest_gets_every_packet(self):
        """Numbered packets through a tap that QEMU serves: the guest gets each of them once (C-10).

        :avocado: tags=smoke
        """
        self.guest_gets_every_packet(Tap(vhost=False))

    @needs("kvm", "vhost-net", "qemu:tap-cpr")
    def test_guest_gets_every_packet_with_vhost(self):
        """The same with kernel vhost (C-10)."""
        self.guest_gets_every_packet(Tap(vhost=True))

    def guest_gets_every_packet(self, net: Tap):
        self.observe(Probe(self.network))
        outcome = self.transfer(self.boot(net=net))
        outcome.assert_completed()
        assert_nothing_lost(outcome.timeline)
        assert_silent(outcome.timeline, "handover", "resume", "packet")

    def test_no_packet_is_lost_outside_the_pause(self):
        """Packets that were sent when the guest ran are answered once, by any QEMU."""
        self.observe(Probe(self.network))
        outcome = self.transfer(self.boot(net=Tap(vhost=False)))
        outcome.assert_completed()
        assert_nothing_lost(outcome.timeline, but_in_the_pause=True)
