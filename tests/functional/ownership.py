# SPDX-License-Identifier: GPL-2.0-or-later
"""The target takes the guest's vhost devices over, and they do the guest's I/O there."""

from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.workloads import echo


@needs("qemu:cpr-transfer")
class Ownership(CprTest):
    """
    :avocado: tags=smoke
    """

    @needs("tun", "netns")
    def test_tap_without_vhost(self):
        """A TCP stream through a tap that QEMU itself serves crosses the hand-over."""
        guest = self.boot(net=Tap(vhost=False))
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        self.transfer(guest).assert_completed()
        stream.wait_progress()
        stream.stop()

    @needs("kvm", "vhost-net", "tun", "netns")
    def test_vhost_net(self):
        """A TCP stream through kernel vhost crosses the hand-over, every byte once and in order (C-05)."""
        self.stream_crosses(Tap(vhost=True))

    @needs("kvm", "vhost-net", "tun", "netns")
    def test_vhost_net_multiqueue(self):
        """The same with two queue pairs, both enabled in the guest (C-01)."""
        self.stream_crosses(Tap(vhost=True, queues=2), prepare="ethtool -L eth0 combined 2")

    @needs("kvm", "vhost-vsock", "root")
    def test_vhost_vsock(self):
        """A vhost-vsock device serves the guest on the target: new connections reach it (D-004)."""
        guest = self.boot(vsock=True)
        cid = guest.spec.devices[-1].cid
        before = echo.vsock(guest, cid)
        assert_in_use(guest.machine.pid, 1, before.wait_progress)
        outcome = self.transfer(guest)
        outcome.assert_completed()
        after = echo.vsock(guest, cid)
        assert_in_use(outcome.target.pid, 1, after.wait_progress)
        after.stop()

    def stream_crosses(self, net: Tap, prepare: str = "true"):
        guest = self.boot(net=net)
        guest.run(prepare)
        stream = echo.tcp(guest, self.network)
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        outcome = self.transfer(guest)
        outcome.assert_completed()
        assert_in_use(outcome.target.pid, guest.vhost_queues, stream.wait_progress)
        stream.stop()
