# SPDX-License-Identifier: GPL-2.0-or-later
"""Each workload alone through twenty hand-overs in a row (C-32); disk, TCP and UDP have theirs elsewhere."""

from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.bar import BarPattern, vga
from cprtest.workloads.clocks import Clocks
from cprtest.workloads.cpu import CpuBurn
from cprtest.workloads.memory import MemoryPattern
from cprtest.workloads.reads import DeviceReads
from cprtest.workloads.vsock import VsockStreams


@needs("qemu:cpr-transfer")
class TwentyTransfers(CprTest):
    """
    :avocado: tags=full
    """

    def test_memory(self):
        """Guest memory."""
        guest = self.boot()
        self.twenty(guest, MemoryPattern(guest))

    def test_clocks(self):
        """The clocks of two vCPUs: what one hand-over takes from them would add up."""
        guest = self.boot(vcpus=2)
        self.twenty(guest, Clocks(guest))

    def test_vcpus(self):
        """Two vCPUs that never rest."""
        guest = self.boot(vcpus=2)
        self.twenty(guest, CpuBurn(guest))

    def test_vga(self):
        """The memory of a VGA card."""
        guest = self.boot(vga=True)
        self.twenty(guest, BarPattern(guest, vga(guest), 0))

    @needs("kvm", "vhost-vsock", "root", "qemu:trace:vhost_cpr_release")
    def test_vsock(self):
        """Streams over vhost-vsock, begun anew after each."""
        guest = self.boot(vsock=True)
        self.twenty(guest, VsockStreams(guest))

    @needs("kvm", "qemu:vfio-cpr", "vfio:nvme")
    def test_interrupts(self):
        """The interrupts of an assigned NVMe drive, each counted."""
        guest = self.boot(passthrough=["nvme"])
        reads = DeviceReads(guest, guest.passthrough[0], 1)
        self.twenty(guest, reads)
        reads.check_at_rest()

    @needs("kvm", "qemu:vfio-cpr", "vfio:ivshmem")
    def test_device_memory(self):
        """The 64 MiB of a passthrough device."""
        guest = self.boot(passthrough=["ivshmem"])
        self.twenty(guest, BarPattern(guest, guest.passthrough[0].guest_path, 2))

    def twenty(self, guest, load):
        self.cross(guest, load, transfers=20)
