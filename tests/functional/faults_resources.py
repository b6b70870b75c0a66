# SPDX-License-Identifier: GPL-2.0-or-later
"""The host has no more of something when the target starts: it needs none of it, or gives up (C-37)."""

from pathlib import Path

from cprtest.aftermath import Expected
from cprtest.campaign import Case, Check
from cprtest.faults.resources import MemoryLimited, NoHugePages, PathDenied, PathGone, ShmFull
from cprtest.faulttest import FaultTest
from cprtest.guest.guest import Guest
from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.test import Tap
from cprtest.workloads import echo
from cprtest.workloads.passthrough import exercisers

COMPLETED = Expected("completed", ("completed",))
PRESERVED = [Path("/dev") / name for name in ("net/tun", "vhost-net", "vhost-vsock", "vfio")]
"""What a target needs not open: the source sends it the descriptors."""
EITHER = Expected("either", ("failed", "completed"))


@needs("qemu:cpr-transfer", "lab", "root")
class Resources(FaultTest):
    """
    :avocado: tags=full
    """

    @needs("hugepages:256")
    def test_no_huge_pages_left(self):
        """A guest in huge pages is handed over when not one more is free: its own travel."""
        self.strike([Case(NoHugePages(), COMPLETED)], self.campaign(memory="hugepages"))

    def test_shm_full(self):
        """A guest is handed over when /dev/shm is full: no memory is made anew there."""
        self.strike([Case(ShmFull(), COMPLETED)])

    def test_memory_cgroup(self):
        """A target whose cgroup gives it too little memory is killed: the guest is back on the source."""
        ends = {4: Expected(), 16: EITHER, 24: EITHER}
        self.strike([Case(MemoryLimited(mib), end) for mib, end in ends.items()])

    @needs("kvm")
    def test_unprivileged_target(self):
        """A target that may not open the image, or /dev/kvm, gives up: the guest goes on on the source."""
        self.without(PathDenied)

    @needs("kvm", "vhost-net", "vhost-vsock", "tun", "netns", "qemu:tap-cpr", "qemu:vfio-cpr", "vfio:ivshmem")
    def test_no_nodes(self):
        """A guest is handed over when the target can open no node of its taps, vhost and VFIO devices."""
        faults = [kind(*PRESERVED) for kind in (PathGone, PathDenied)]
        devices = {"net": Tap(vhost=True), "vsock": True, "passthrough": ["ivshmem"]}
        campaign = self.campaign(load=self.by_devices, **devices)
        self.strike([Case(fault, COMPLETED) for fault in faults], campaign)

    @needs("kvm")
    def test_no_image(self):
        """A target for which there is no image, or no /dev/kvm, gives up: the guest goes on on the source."""
        self.without(PathGone)

    def without(self, kind: type[PathGone] | type[PathDenied]) -> None:
        disk = self.disk()
        faults = [kind(path) for path in (disk.image, Path("/dev/kvm"))]
        self.strike([Case(fault) for fault in faults], self.campaign(disk=disk))

    def by_devices(self, guest: Guest) -> Check:
        arrives = echo.tcp(guest, self.network).wait_progress
        devices = exercisers(guest, lambda: self.network)

        def work() -> None:
            assert_in_use(guest.machine.pid, guest.vhost_queues + 1, arrives)  # one is vsock's
            for device in devices:
                device.exercise()

        return work
