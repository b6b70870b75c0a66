# SPDX-License-Identifier: GPL-2.0-or-later
"""-netdev tap,cpr=on, whatever way QEMU comes by the tap; and queues that are switched off."""

from pathlib import Path

from cprtest.faults.target import MainRefused
from cprtest.host import tap
from cprtest.host.tap_open import BridgeHelper
from cprtest.machine.nics import HelpedTap, OpenedTap
from cprtest.machine.tap_settings import settings
from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo


@needs("qemu:cpr-transfer", "qemu:tap-cpr", "tun", "netns")
class TapOptions(CprTest):
    """
    :avocado: tags=full
    """

    @needs("root")
    def test_fd(self):
        """A tap that QEMU was given by fd= goes on; the target, told the same number, does not look at it."""
        self.goes_on(OpenedTap(vhost=False))

    @needs("root")
    def test_fds(self):
        """The same for two queues, by fds=."""
        self.goes_on(OpenedTap(vhost=False, queues=2))

    @needs("root", "kvm", "vhost-net")
    def test_vhostfd(self):
        """fd= with vhostfd=: the target has the source's vhost, which serves the guest (C-04)."""
        self.goes_on(OpenedTap())

    @needs("root", "kvm", "vhost-net")
    def test_vhostfds(self):
        """fds= with vhostfds=, two queues: each has its own vhost on the target."""
        self.goes_on(OpenedTap(queues=2))

    def test_helper(self):
        """helper= is asked for a tap by the first QEMU only: the target has that one."""
        self.is_asked_once(vhost=False)

    @needs("kvm", "vhost-net")
    def test_helper_with_vhost(self):
        """The same for a tap that kernel vhost serves."""
        self.is_asked_once(vhost=True)

    def test_queue_stays_off(self):
        """A queue that the guest has not enabled stays off, after a failure and after a transfer."""
        self.stays_off(Tap(vhost=False, queues=2))

    @needs("kvm", "vhost-net")
    def test_vhost_queue_stays_off(self):
        """The same for a tap that kernel vhost serves."""
        self.stays_off(Tap(queues=2))

    def goes_on(self, net: Tap):
        guest = self.boot(net=net)
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        before = settings(guest, self.network)
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        stream.wait_progress()
        for _ in range(2):  # the second source never opened anything itself
            self.transfer(guest).assert_completed()
            self.assert_set(guest, before)
            if net.vhost:
                assert_in_use(guest.machine.pid, net.queues, stream.wait_progress)
            stream.wait_progress()
        stream.stop()

    def is_asked_once(self, *, vhost: bool):
        helper = BridgeHelper(Path(self.workdir))
        self.goes_on(HelpedTap(vhost=vhost, helper=helper.program))
        self.assertNotIn(self.bed.machines[-1].pid, helper.ran_by(), tag("acquire"))
        self.assertIn(self.bed.transfers[0].source.pid, helper.ran_by())

    def stays_off(self, net: Tap):
        guest = self.boot(net=net)
        guest.run("ethtool -L eth0 combined 1")
        before = settings(guest, self.network)
        self.assertEqual(self.queues_on(guest), 1)
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        self.assert_set(guest, before)
        self.transfer(guest).assert_completed()
        self.assert_set(guest, before)
        guest.run("ethtool -L eth0 combined 2")
        self.assertEqual(self.queues_on(guest), 2, tag("resume"))
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        stream.stop()

    def queues_on(self, guest) -> int:
        return sum(not queue["flags"] & tap.DETACHED for queue in tap.queues(guest.machine.pid))

    def assert_set(self, guest, before: dict):
        for what, now in settings(guest, self.network).items():
            self.assertEqual(now, before[what], f"{what} {tag('resume')}")
