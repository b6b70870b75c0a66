# SPDX-License-Identifier: GPL-2.0-or-later
"""A failure on the way brings the guest back on the source, as it was; a second attempt succeeds (C-31)."""

from cprtest.faults.target import MainRefused, TargetHangs, TargetKilled
from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.workloads import echo
from cprtest.workloads.data import DiskData, MemoryData
from cprtest.workloads.passthrough import exercisers


@needs("qemu:cpr-transfer")
class Rollback(CprTest):
    """
    :avocado: tags=smoke
    """

    def test_main_channel_refused(self):
        """Nobody takes the device state: the guest runs on the source, its data intact (C-06)."""
        self.guest_comes_back(MainRefused(), "failed")

    def test_target_killed(self):
        """The target dies before it has read the descriptors: the guest runs on the source."""
        self.guest_comes_back(TargetKilled(), "failed")

    def test_cancel_while_target_hangs(self):
        """The target never closes the cpr channel: `migrate_cancel` brings the guest back (C-21)."""
        self.guest_comes_back(TargetHangs(), "cancelled")

    def test_paused_guest_stays_paused(self):
        """A guest that was paused before a transfer that fails is paused after it (C-11)."""
        guest = self.boot()
        guest.machine.qmp.command("stop")
        outcome = self.transfer(guest, fault=MainRefused())
        outcome.assert_rolled_back()
        self.assertEqual(outcome.states["source"], "paused")
        guest.machine.qmp.command("cont")
        guest.run("true")

    @needs("tun", "netns")
    def test_tap_works_again(self):
        """A target that failed leaves the tap as the source needs it: the stream goes on (C-02, D-005)."""
        guest = self.boot(net=Tap(vhost=False))
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        outcome = self.transfer(guest, fault=MainRefused())
        outcome.assert_rolled_back()
        outcome.assert_notified_once()
        stream.wait_progress()
        stream.stop()

    @needs("kvm", "vhost-net", "tun", "netns", "qemu:tap-cpr")
    def test_vhost_net_is_owned_again(self):
        """After a failure kernel vhost serves the guest on the source, later on the target (C-05, C-06)."""
        guest = self.boot(net=Tap(vhost=True))
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        self.transfer(guest).assert_completed()
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        stream.stop()

    def guest_comes_back(self, fault, status: str):
        guest = self.boot(disk=self.disk())
        data = [MemoryData(guest), DiskData(guest)]
        outcome = self.transfer(guest, fault=fault)
        outcome.assert_rolled_back()
        self.assertEqual(outcome.reported, status)
        for part in data:
            part.check()
        self.transfer(guest).assert_completed()
        for part in data:
            part.check()


@needs("qemu:cpr-transfer")
class RollbackOfDevices(CprTest):
    """
    :avocado: tags=full
    """

    @needs("kvm", "vhost-net", "tun", "netns", "qemu:tap-cpr")
    def test_two_vhost_queues_are_owned_again(self):
        """Both queue pairs are the source's again after a failure, the target's after a transfer (C-05)."""
        guest = self.boot(net=Tap(vhost=True, queues=2))
        guest.run("ethtool -L eth0 combined 2")
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        outcome = self.transfer(guest, fault=MainRefused())
        outcome.assert_rolled_back()
        outcome.assert_notified_once()
        assert_in_use(guest.machine.pid, 2, stream.wait_progress)
        self.transfer(guest).assert_completed()
        assert_in_use(guest.machine.pid, 2, stream.wait_progress)
        stream.stop()

    @needs("kvm", "vhost-vsock", "root", "qemu:trace:vhost_cpr_release")
    def test_vhost_vsock_is_owned_again(self):
        """When the target has died the guest has its CID on the source, and connections reach it (D-004)."""
        guest = self.boot(vsock=True)
        cid = guest.spec.devices[-1].cid
        self.transfer(guest, fault=TargetKilled()).assert_rolled_back()
        after = echo.vsock(guest, cid)
        assert_in_use(guest.machine.pid, 1, after.wait_progress)
        after.stop()
        self.transfer(guest).assert_completed()

    @needs("kvm", "vfio:virtio-net", "wire:virtio-net", "vfio:nvme", "netns", "qemu:vfio-cpr")
    def test_passthrough_works_again(self):
        """After a failure passthrough devices go on working on the source, later on the target (C-13)."""
        guest = self.boot(passthrough=["virtio-net", "nvme"])
        devices = exercisers(guest, lambda: self.network)
        for device in devices:
            device.exercise()
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        for device in devices:
            device.exercise()
        self.transfer(guest).assert_completed()
        for device in devices:
            device.exercise()
