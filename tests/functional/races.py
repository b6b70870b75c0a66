# SPDX-License-Identifier: GPL-2.0-or-later
"""Races made visible: the syscall gate stops a hand-over at one step for as long as wanted.

While a step is held, host and guest go on sending. Neither side may run the guest or answer for it. Let go,
everything goes on: every byte once, no packet twice, and none is lost that came in the pause. (A QEMU whose
main thread is held serves no NIC without vhost: there a hold on the source proves the order, one on the
target that the source is silent.)
"""

import errno

from cprtest.faults.target import MainRefused
from cprtest.machine.devices import HOST_ADDRESS
from cprtest.machine.vcpus import assert_still
from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo
from cprtest.workloads.wire import Wire

WITHOUT_VHOST = Tap(vhost=False)
ORDERED = "qemu:trace:migration_cpr_stop"
VHOST = ("kvm", "vhost-net", "qemu:tap-cpr")


@needs("qemu:cpr-transfer", "seccomp-notify", "tun", "netns")
class Races(CprTest):
    """
    :avocado: tags=full
    """

    @needs(ORDERED)
    def test_handover_held(self):
        """Descriptors that are about to leave wait: the guest is paused already, nobody sends for it."""
        self.nobody_sends_while_held("SCM_RIGHTS", "source", "handover")

    @needs(ORDERED)
    def test_last_descriptor_held(self):
        """The target has some descriptors and waits for the others: nobody sends for the guest."""
        self.nobody_sends_while_held("SCM_RIGHTS", "source", "handover", nth=4)

    @needs("qemu:tap-cpr")
    def test_acquire_held(self):
        """The target is held while it looks at the tap: nobody sends for the guest."""
        self.nobody_sends_while_held("TUNSETOFFLOAD", "target", "acquire")

    @needs("qemu:tap-cpr")
    def test_resume_held(self):
        """The target is held on its way to running the guest: nobody sends for it."""
        self.nobody_sends_while_held("TUNSETVNETHDRSZ", "target", "resume")

    def test_handover_fails(self):
        """Descriptors cannot be sent: the guest goes on on the source, and a second attempt succeeds."""
        gate, stream, wire, guest = self.guest_that_sends(Tap(vhost=False))
        rule = gate.fail("SCM_RIGHTS", errno.EPIPE, actor="source", nth=2)
        self.transfer(guest).assert_rolled_back()
        self.assertEqual(rule.struck, 1)
        stream.wait_progress()
        self.transfer(guest).assert_completed()
        self.all_arrived_once(stream, wire, "rollback")

    @needs(*VHOST)
    def test_vhost_release_held(self):
        """The source still owns its vhost device, but nothing is sent through it (C-04, C-10)."""
        self.nobody_sends_while_held("VHOST_RESET_OWNER", "source", "release", nic=Tap(vhost=True))

    @needs(*VHOST)
    def test_vhost_handover_held(self):
        """Released vhost devices lie between the two sides: nobody sends through them."""
        self.nobody_sends_while_held("SCM_RIGHTS", "source", "handover", nic=Tap(vhost=True))

    @needs(*VHOST)
    def test_vhost_acquire_held(self):
        """The target is held before it owns the device: nobody owns it, nobody sends through it."""
        self.nobody_sends_while_held("VHOST_SET_OWNER", "target", "acquire", nic=Tap(vhost=True))

    @needs(*VHOST)
    def test_vhost_resume_held(self):
        """The target owns the device and is held before it has a tap: nobody sends through it."""
        self.nobody_sends_while_held("VHOST_NET_SET_BACKEND", "target", "resume", nic=Tap(vhost=True))

    @needs(*VHOST)
    def test_vhost_rollback_held(self):
        """The source is held before it owns its device again: nobody sends; then it sends by vhost again."""
        gate, stream, wire, guest = self.guest_that_sends(Tap(vhost=True))
        hold = gate.hold("VHOST_SET_OWNER", actor="source")
        with self.transferring(guest, fault=MainRefused()) as transfer:
            transfer.reach(hold)
            assert_still([guest.machine], lambda: wire.assert_silent("rollback"))
            hold.release()
        transfer.outcome.assert_rolled_back()
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        self.all_arrived_once(stream, wire, "rollback")

    @needs(*VHOST)
    def test_vhost_rollback_fails(self):
        """A device that cannot be owned again: QEMU says so, the guest goes on without vhost (C-05)."""
        gate, stream, wire, guest = self.guest_that_sends(Tap(vhost=True))
        rule = gate.fail("VHOST_SET_OWNER", errno.EPERM, actor="source", nth=None)
        outcome = self.transfer(guest, fault=MainRefused())
        rule.cancel()
        outcome.assert_rolled_back()
        self.assertGreaterEqual(rule.struck, 1)
        self.assertIn("could not take back vhost device", outcome.error, tag("rollback"))
        stream.wait_progress()
        self.transfer(guest).assert_completed()
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        self.all_arrived_once(stream, wire, "rollback")

    @needs(*VHOST)
    def test_vhost_release_fails(self):
        """A device that cannot be released stays with the source: no descriptor leaves, the guest goes on."""
        gate, stream, wire, guest = self.guest_that_sends(Tap(vhost=True))
        rule = gate.fail("VHOST_RESET_OWNER", errno.EPERM, actor="source")
        outcome = self.transfer(guest)
        outcome.assert_rolled_back()
        self.assertEqual(rule.struck, 1)
        self.assertEqual(gate.events("SCM_RIGHTS", "source"), [], tag("setup", "release"))
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        self.all_arrived_once(stream, wire, "rollback")

    @needs(*VHOST)
    def test_vhost_release_suppressed(self):
        """A device that was not released is busy for the target, which says so; the source goes on (C-04)."""
        gate, stream, wire, guest = self.guest_that_sends(Tap(vhost=True))
        gate.succeed("VHOST_RESET_OWNER", actor="source", nth=None)
        outcome = self.transfer(guest)
        outcome.assert_rolled_back()
        (busy,) = gate.events("VHOST_SET_OWNER", "target")
        self.assertRegex(outcome.messages["target"], "(?i)busy", tag("acquire"))
        self.assertEqual(busy.data["queue"], 0)
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        self.all_arrived_once(stream, wire, "rollback")

    def nobody_sends_while_held(
        self, call: str, side: str, phase: str, nth: int = 1, nic: Tap = WITHOUT_VHOST
    ):
        gate, stream, wire, guest = self.guest_that_sends(nic)
        hold = gate.hold(call, actor=side, nth=nth)
        with self.transferring(guest) as transfer:
            transfer.reach(hold)
            assert_still(self.bed.machines[-2:], lambda: wire.assert_silent(phase))
            hold.release()
        transfer.outcome.assert_completed()
        transfer.outcome.timeline.assert_order("stop", "setup", "handover", "acquire", "resume")
        if nic.vhost:
            assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        wire.assert_answered("setup")
        self.all_arrived_once(stream, wire, phase)

    def guest_that_sends(self, nic: Tap):
        gate = Gate(descriptors=True)
        self.observe(gate)
        guest = self.boot(net=nic)
        guest.run(f"busybox ping -q -i 0.05 {HOST_ADDRESS.format(nic.index)} >/dev/null 2>&1 </dev/null &")
        wire = Wire(self.network, nic)
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        return gate, stream, wire, guest

    def all_arrived_once(self, stream: echo.EchoStream, wire: Wire, phase: str):
        stream.wait_progress()
        stream.stop()
        wire.assert_nothing_twice(phase)
        wire.close()
