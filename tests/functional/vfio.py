# SPDX-License-Identifier: GPL-2.0-or-later
"""Passthrough devices go on working on the target: DMA, interrupts and device memory."""

from cprtest.faults.target import ExecFails
from cprtest.host.interrupts import msix_counts
from cprtest.limits import wait_until
from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo
from cprtest.workloads.data import DiskData
from cprtest.workloads.passthrough import exercisers


class PassthroughTest(CprTest):
    """A test whose guest has passthrough devices."""

    def exercisers(self, guest):
        devices = exercisers(guest, lambda: self.network)
        for device in devices:
            device.exercise()
        return devices


@needs("qemu:vfio-cpr")
class Vfio(PassthroughTest):
    """
    :avocado: tags=smoke
    """

    @needs("kvm", "vfio:virtio-net", "wire:virtio-net", "netns")
    def test_virtio_net(self):
        """A virtio-net NIC by VFIO receives and sends on the target after the source has exited."""
        self.devices_cross("virtio-net")

    @needs("kvm", "vfio:nvme")
    def test_nvme(self):
        """An NVMe drive by VFIO reads and writes by DMA on the target, with interrupts (C-13)."""
        self.devices_cross("nvme")

    @needs("kvm", "vfio:igb-vf", "wire:igb-vf", "netns")
    def test_igb_vf(self):
        """A virtual function of an igb NIC receives and sends on the target."""
        self.devices_cross("igb-vf")

    @needs("kvm", "vfio:ivshmem")
    def test_ivshmem(self):
        """A device with a 64 MiB memory BAR keeps its contents, and all of it stays mapped (C-14)."""
        self.devices_cross("ivshmem")

    @needs("kvm", "vfio:e1000e", "wire:e1000e", "netns")
    def test_no_function_level_reset(self):
        """A device that can only be reset by its bus survives the target's start (C-28, D-002)."""
        self.devices_cross("e1000e")

    @needs("vfio:virtio-net", "wire:virtio-net", "vfio:nvme", "vfio:igb-vf", "wire:igb-vf", "vfio:ivshmem")
    @needs("kvm", "vhost-net", "tun", "netns")
    def test_everything_together(self):
        """vhost-net NIC, disk and four passthrough devices cross in one hand-over."""
        roles = ("virtio-net", "nvme", "igb-vf", "ivshmem")
        guest = self.boot(net=Tap(vhost=True), disk=self.disk(), passthrough=roles)
        stream = echo.tcp(guest, self.network)
        data = DiskData(guest, size_mib=1)
        devices = self.exercisers(guest)
        assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
        outcome = self.transfer(guest)
        outcome.assert_completed()
        for device in devices:
            device.exercise()
        data.check()
        assert_in_use(outcome.target.pid, guest.vhost_queues, stream.wait_progress)
        stream.stop()

    def devices_cross(self, *roles: str):
        guest = self.boot(passthrough=roles)
        devices = self.exercisers(guest)
        self.transfer(guest).assert_completed()
        for device in devices:
            device.exercise()


@needs("qemu:vfio-cpr", "qemu:cpr-exec")
class VfioByExec(PassthroughTest):
    """
    :avocado: tags=full
    """

    @needs("kvm", "vfio:igb-vf", "wire:igb-vf", "netns")
    def test_execve_fails(self):
        """The source goes on with a passthrough device when there is no program to become (D-018)."""
        guest = self.boot(passthrough=["igb-vf"])
        devices = self.exercisers(guest)
        self.transfer(guest, mode="cpr-exec", fault=ExecFails()).assert_rolled_back()
        for device in devices:
            device.exercise()
        self.transfer(guest, mode="cpr-exec").assert_completed()
        for device in devices:
            device.exercise()


@needs("qemu:vfio-cpr")
class VfioWithoutKvm(PassthroughTest):
    """A guest that TCG runs; in an emulated lab it takes minutes to start a driver, too long for smoke.

    :avocado: tags=full
    """

    @needs("vfio:virtio-net", "wire:virtio-net", "netns")
    def test_msix(self):
        """A passthrough device with MSI-X in use is handed over without KVM too (C-23, D-001)."""
        guest = self.boot(passthrough=["virtio-net"], accel="tcg")
        (device,) = guest.passthrough
        # The host's count of interrupts, as the guest, without KVM, is slow to say.
        wait_until(f"{device.id} to use MSI-X", lambda: msix_counts(device.address), 60)
        (nic,) = exercisers(guest, lambda: self.network)
        self.transfer(guest).assert_completed()
        before = sum(msix_counts(device.address))
        nic.ping()
        raised = sum(msix_counts(device.address)) - before
        self.assertGreater(raised, 0, f"{device.id} answers without an interrupt {tag('resume')}")
