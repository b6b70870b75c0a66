# SPDX-License-Identifier: GPL-2.0-or-later
"""The target asks for each device once, after the source gave it up, and has it then."""

from cprtest.machine.vhost import workers
from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag


@needs("qemu:cpr-transfer", "seccomp-notify", "kvm")
class FirstTry(CprTest):
    """
    :avocado: tags=full
    """

    @needs("vhost-net", "tun", "netns", "qemu:tap-cpr")
    def test_vhost_net(self):
        """The target's VHOST_SET_OWNER succeeds on the first try for each of two queue pairs (C-04)."""
        gate = Gate()
        self.observe(gate)
        outcome = self.transfer(self.boot(net=Tap(vhost=True, queues=2)))
        outcome.assert_completed()
        self.taken_once(gate, [("net0", 0), ("net0", 1)], "VHOST_RESET_OWNER")
        self.assertEqual(len(workers(outcome.target.pid)), 2, tag("acquire"))

    @needs("vhost-vsock", "root", "qemu:trace:vhost_cpr_release")
    def test_vhost_vsock(self):
        """The target's VHOST_SET_OWNER of vhost-vsock succeeds on the first try (D-004)."""
        gate = Gate()
        self.observe(gate)
        outcome = self.transfer(self.boot(vsock=True))
        outcome.assert_completed()
        # The kernel cannot release a vhost-vsock: the source opens it anew (docs/reference-qemu.md).
        self.taken_once(gate, [("vsock0", 0)], None)
        self.assertEqual(len(workers(outcome.target.pid)), 1, tag("acquire"))

    @needs("vfio:nvme", "root", "qemu:vfio-cpr")
    def test_vfio_is_not_reset(self):
        """The target resets no passthrough device that the guest is using (C-28)."""
        gate = Gate()
        self.observe(gate)
        outcome = self.transfer(self.boot(passthrough=["nvme"]))
        outcome.assert_completed()
        self.assertTrue(gate.events("VFIO_IOMMU_*", "source"), "the gate saw no passthrough device at all")
        self.assertEqual(gate.events("VFIO_DEVICE_*RESET", "target"), [], tag("acquire"))

    def taken_once(self, gate: Gate, queues: list[tuple[str, int]], release: str | None):
        taken = gate.events("VHOST_SET_OWNER", "target")
        self.assertEqual([(e.data["device"], e.data["queue"]) for e in taken], queues, tag("acquire"))
        released = gate.events(release, "source") if release else []
        for event in released:
            later = next(e for e in taken if e.data["nr"] == event.data["nr"])
            self.assertLess(event.t + event.data["held"], later.t, tag("release"))
        self.assertEqual(len(released), len(queues) if release else 0, tag("release"))
