# SPDX-License-Identifier: GPL-2.0-or-later
"""Races made visible: the syscall gate stops a hand-over at one step for as long as wanted.

While a step is held, the host goes on sending to the guest. Nobody may answer for the guest, on either side;
let go, everything goes on, every byte once and no packet twice.
"""

import errno

from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.test import CprTest, Tap
from cprtest.workloads import echo
from cprtest.workloads.wire import Wire


@needs("qemu:cpr-transfer", "seccomp-notify", "tun", "netns")
class Races(CprTest):
    """
    :avocado: tags=full
    """

    def test_handover_held(self):
        """Descriptors that are about to leave wait: the guest is paused already, nobody sends for it."""
        self.nobody_sends_while_held("SCM_RIGHTS", "source", "handover")

    def test_last_descriptor_held(self):
        """The target has all descriptors but one and waits for it: nobody sends for the guest."""
        self.nobody_sends_while_held("SCM_RIGHTS", "source", "handover", nth=4)

    @needs("qemu:tap-cpr")
    def test_acquire_held(self):
        """The target is stopped while it looks at the tap: nobody sends for the guest."""
        self.nobody_sends_while_held("TUNSETOFFLOAD", "target", "acquire")

    @needs("qemu:tap-cpr")
    def test_resume_held(self):
        """The target is stopped on its way to running the guest: nobody sends for it."""
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

    def nobody_sends_while_held(self, call: str, side: str, phase: str, nth: int = 1):
        gate, stream, wire, guest = self.guest_that_sends(Tap(vhost=False))
        hold = gate.hold(call, actor=side, nth=nth)
        with self.transferring(guest) as transfer:
            hold.wait()
            with wire.silent(phase) as wait_sent:
                wait_sent(5)
            hold.release()
        transfer.outcome.assert_completed()
        self.all_arrived_once(stream, wire, phase)

    def guest_that_sends(self, nic: Tap, prepare: str = "true"):
        gate = Gate(descriptors=True)
        self.observe(gate)
        guest = self.boot(net=nic)
        guest.run(prepare)
        wire = Wire(self.network, nic)
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        return gate, stream, wire, guest

    def all_arrived_once(self, stream, wire, phase):
        stream.wait_progress()
        stream.stop()
        wire.assert_nothing_twice(phase)
        wire.close()
