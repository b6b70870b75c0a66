# SPDX-License-Identifier: GPL-2.0-or-later
"""What the syscall gate promises the tests that rest on it."""

from cprtest.errors import CprError
from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.test import CprTest, Tap


@needs("qemu:cpr-transfer", "seccomp-notify", "tun", "netns")
class SyscallGate(CprTest):
    """
    :avocado: tags=full
    """

    @needs("qemu:tap-cpr")
    def test_same_queue_on_both_sides(self):
        """The gate knows a queue's open file again in the target, whatever its descriptor is there."""
        gate = Gate(descriptors=True)
        self.observe(gate)
        self.transfer(self.boot(net=Tap(vhost=False))).assert_completed()
        opened = gate.events("TUNSET*", "source")[0].data
        taken = gate.events("TUNSET*", "target")[0].data
        self.assertEqual((taken["device"], taken["queue"], taken["nr"]), ("net0", 0, opened["nr"]))
        self.assertIn([opened["fd"]], [e.data["fds"] for e in gate.events("SCM_RIGHTS", "source")])

    def test_supervisor_killed(self):
        """Without its supervisor the gate lets no call through, ends QEMU, and the test is an error."""
        gate = Gate()
        self.observe(gate)
        guest = self.boot(net=Tap(vhost=False))
        hold = gate.hold("TUNSETOFFLOAD", actor="target")
        with self.assertRaisesRegex(CprError, "supervisor ended"), self.transferring(guest) as transfer:
            transfer.reach(hold)
            gate.kill()
        self.assertRaisesRegex(CprError, "supervisor ended", self.bed.intact)
        self.assertEqual({m.exit().signal for m in self.bed.machines}, {"SIGKILL"})
        self.bed.observers.remove(gate)  # or else this test would be an error itself
