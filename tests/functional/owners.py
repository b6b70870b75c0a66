# SPDX-License-Identifier: GPL-2.0-or-later
"""Each device has one owner at a time, and the right one: by what the kernel saw, not by what QEMU says."""

from cprtest.machine.vhost import assert_in_use, workers
from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.observe.proc import Proc
from cprtest.test import CprTest, Tap
from cprtest.timeline.ownership import owners_at
from cprtest.timeline.takeover import assert_no_foreign_io, assert_taken_over
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo


@needs("qemu:cpr-transfer", "kvm", "tracer")
class Owners(CprTest):
    """
    :avocado: tags=full
    """

    @needs("vhost-net", "tun", "netns")
    def test_two_queues(self):
        """The target's VHOST_SET_OWNER succeeds at the first try, no queue has two owners at once (C-04)."""
        guest = self.boot(net=Tap(vhost=True, queues=2))
        outcome = self.transfer(guest)
        outcome.assert_completed()
        outcome.timeline.assert_order("stop", "setup", "handover", "acquire", "resume")
        assert_taken_over(outcome.timeline, [("net0", 0), ("net0", 1)])

    @needs("vhost-vsock", "root")
    def test_vsock(self):
        """The same for vhost-vsock, whose source gives it up by opening it anew (D-004)."""
        outcome = self.transfer(self.boot(vsock=True))
        outcome.assert_completed()
        assert_taken_over(outcome.timeline, [("vsock0", 0)])

    @needs("vfio:nvme", "qemu:vfio-cpr")
    def test_passthrough(self):
        """DMA of a passthrough device goes to the memory of one side at a time, at last to the target's."""
        outcome = self.transfer(self.boot(passthrough=["nvme"]))
        outcome.assert_completed()
        timeline = outcome.timeline
        timeline.assert_never_overlaps("vfio")
        for event, side in ((timeline.events[0], "source"), (timeline.events[-1], "target")):
            owners = owners_at(timeline.ownership, event.t)
            self.assertEqual(
                {who for (what, _), who in owners.items() if what == "vfio"}, {side}, tag("acquire")
            )

    @needs("vhost-net", "tun", "netns")
    def test_source_sends_and_receives_nothing_after_handover(self):
        """A source that is left running has no vhost worker, and takes no packet of the guest's (C-05)."""
        self.only_the_owner_has_packets(Tap(vhost=True), workers_after=1)

    @needs("tun", "netns")
    def test_source_without_vhost_takes_no_packet(self):
        """The same for a tap that QEMU itself reads, and the target reads none before it has the guest."""
        self.only_the_owner_has_packets(Tap(vhost=False), workers_after=0)

    @needs("vhost-net", "tun", "netns", "seccomp-notify", "qemu:tap-cpr")
    def test_gate_and_kernel_agree(self):
        """What the gate lets through and what the kernel then does is the same, call by call."""
        self.observe(Gate(), Proc())
        outcome = self.transfer(self.boot(net=Tap(vhost=True)))  # compares them
        outcome.assert_completed()
        for name in ("VHOST_RESET_OWNER", "VHOST_SET_OWNER"):
            seen = {event.observer for event in outcome.timeline.events if event.name == name}
            self.assertEqual(seen, {"gate", "tracefs"}, name)

    @needs("vhost-net", "tun", "netns", "qemu:tap-cpr")
    def test_ownership_stays_when_the_source_exits(self):
        """The source's end takes nothing from the target: the same worker serves the guest on (C-05)."""
        guest = self.boot(net=Tap(vhost=True))
        stream = echo.tcp(guest, self.network)
        outcome = self.transfer(guest, keep_source=True)
        outcome.assert_completed()
        owned = workers(outcome.target.pid)
        outcome.source.quit()
        assert_in_use(outcome.target.pid, 1, stream.wait_progress)
        self.assertEqual(workers(outcome.target.pid), owned, tag("complete"))
        stream.stop()

    def only_the_owner_has_packets(self, net: Tap, workers_after: int):
        self.observe(Proc())
        guest = self.boot(net=net)
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        outcome = self.transfer(guest, keep_source=True)
        outcome.assert_completed()
        assert_no_foreign_io(outcome.timeline)
        self.assertEqual(workers(outcome.source.pid), [], tag("release"))
        self.assertEqual(len(workers(outcome.target.pid)), workers_after, tag("acquire"))
        stream.wait_progress()
        stream.stop()
