# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts of an assigned device: none lost in the hand-over, none twice, and none at rest (C-13)."""

from cprtest.faults.stations import At, Meanwhile, Streaming
from cprtest.limits import wait_until
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.timeline.timeline import tag
from cprtest.workloads import interrupts
from cprtest.workloads.kernel_log import KernelLog
from cprtest.workloads.passthrough import exerciser
from cprtest.workloads.reads import DeviceReads, block_device


class Assigned(CprTest):
    """What the tests below share."""

    def reading(self, readers: int = 1, *, msi: bool = True):
        guest = self.boot(passthrough=["nvme"])
        (device,) = guest.passthrough
        if not msi:
            interrupts.without_msi(guest, device)
        reads = DeviceReads(guest, device, readers)
        reads.wait_progress(1)
        return guest, device, reads


@needs("qemu:vfio-cpr", "kvm", "vfio:nvme")
class Interrupts(Assigned):
    """
    :avocado: tags=full
    """

    def test_msix(self):
        """Every read of an NVMe drive, before, during and after three hand-overs, is one MSI-X interrupt."""
        self.counted(3)

    def test_intx(self):
        """The same with the drive's INTx line."""
        self.counted(1, msi=False)

    def test_busy(self):
        """Eight readers keep the drive busy through three hand-overs, and no completion is overlooked."""
        guest, _, reads = self.reading(8)
        self.cross(guest, reads, transfers=3)

    def counted(self, transfers: int, **how):
        guest, _, reads = self.reading(**how)
        self.cross(guest, reads, transfers=transfers)
        reads.check_at_rest()


@needs("qemu:vfio-cpr", "kvm", "vfio:virtio-net", "wire:virtio-net", "netns")
class PacketInThePause(CprTest):
    """
    :avocado: tags=full
    """

    def test_msix(self):
        """The interrupt of a packet that came while nobody ran the guest reaches it on the target (C-13)."""
        guest = self.boot(passthrough=["virtio-net"])
        nic = exerciser(guest, guest.passthrough[0], lambda: self.network)
        nic.exercise()
        question = nic.question()
        packet = Meanwhile("packet", "a packet was sent to the guest", lambda _: question.ask())
        outcome = self.transfer(guest, fault=At(Streaming(), packet))
        outcome.assert_completed()
        question.assert_answered(f"in the pause {tag('setup', 'resume')}")
        nic.exercise()


@needs("qemu:vfio-cpr", "kvm", "vfio:nvme")
class LyingInterrupts(Assigned):
    """
    :avocado: tags=full
    """

    def test_vectors_masked(self):
        """Interrupts that are masked behind the driver's back are found: reads end by time-out alone."""
        guest, device, _ = self.reading()
        kernel = KernelLog(guest)
        interrupts.mask(guest, device)
        wait_until("the driver to look for a lost completion", kernel.problems, 30)
        self.assertRaisesRegex(AssertionError, r"I/O error: .*(completion polled|timeout)", kernel.check)

    def test_interrupt_of_another(self):
        """Interrupts that no read of the workload asked for are found by their number."""
        guest, device, reads = self.reading()
        self.read_beside(guest, device)
        reads.wait_progress(1)
        reads.stop()
        self.assertRaisesRegex(AssertionError, r"\d+ reads and \d+ interrupts: more than once", reads.check)

    def test_interrupt_at_rest(self):
        """An interrupt that comes while nothing is asked of the drive is found."""
        guest, device, reads = self.reading()
        reads.stop()
        reads.check_at_rest()
        self.read_beside(guest, device)
        self.assertRaisesRegex(AssertionError, r"raised \d+ interrupts at rest", reads.check_at_rest)

    def read_beside(self, guest, device):
        node = block_device(guest, device)
        guest.run(f"dd if=/dev/{node} of=/dev/null bs=4k count=5 iflag=direct 2>/dev/null")
