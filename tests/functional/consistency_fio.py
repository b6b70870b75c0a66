# SPDX-License-Identifier: GPL-2.0-or-later
"""fio, which is not ours, writes blocks with checksums across hand-overs, and finds all of them after."""

from cprtest.faults import plants
from cprtest.faults.target import MainRefused
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.fio import FioWriter
from cprtest.workloads.kernel_log import KernelLog
from cprtest.workloads.reads import block_device


class Verified(CprTest):
    """What the tests below share."""

    def drive(self):
        """A guest with an assigned NVMe drive, and what the guest calls it."""
        guest = self.boot(passthrough=["nvme"], tools=True)
        return guest, block_device(guest, guest.passthrough[0])

    def fio_crosses(self, guest, node: str, transfers: int = 1):
        kernel = KernelLog(guest)
        fio = FioWriter(guest, node)
        fio.trouble = kernel.said
        for _ in range(transfers):
            fio.wait_progress()
            self.transfer(guest).assert_completed()
        fio.wait_progress()
        fio.verify()
        kernel.check()

    def assert_found(self, fio, place: str):
        self.assertRaisesRegex(AssertionError, f"fio: what was written .* is damaged: .*{place}", fio.verify)


@needs("qemu:cpr-transfer")
class FioOnDisk(Verified):
    """
    :avocado: tags=full
    """

    def test_five_transfers(self):
        """Every block that fio wrote on virtio-blk across five hand-overs holds what was written."""
        self.fio_crosses(self.boot(disk=self.disk(), tools=True), "vda", transfers=5)

    def test_virtio_scsi(self):
        """The same on virtio-scsi and qcow2."""
        disk = self.disk(bus="virtio-scsi", format="qcow2")
        self.fio_crosses(self.boot(disk=disk, tools=True), "sda", transfers=2)

    def test_rollback(self):
        """The same after a hand-over that failed, and one that did not (C-30)."""
        guest = self.boot(disk=self.disk(), tools=True)
        fio = FioWriter(guest)
        fio.wait_progress()
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        fio.wait_progress()
        self.transfer(guest).assert_completed()
        fio.wait_progress()
        fio.verify()

    def test_flipped_byte(self):
        """A byte that changed in the image is found by fio."""
        disk = self.disk()
        fio = FioWriter(self.boot(disk=disk, tools=True))
        fio.wait_progress()
        plants.flip(disk.image, 0x5123)
        self.assert_found(fio, "offset 20480")


@needs("qemu:vfio-cpr", "kvm", "vfio:nvme")
class FioOnNvme(Verified):
    """
    :avocado: tags=full
    """

    def test_three_transfers(self):
        """Every block that fio wrote on an NVMe drive by VFIO across three hand-overs is as it was."""
        self.fio_crosses(*self.drive(), transfers=3)

    def test_write_beside(self):
        """A sector of the drive that somebody else wrote is found by fio."""
        guest, node = self.drive()
        fio = FioWriter(guest, node)
        fio.wait_progress()
        guest.run(f"dd if=/dev/zero of=/dev/{node} bs=512 count=1 seek=40 oflag=direct 2>/dev/null")
        self.assert_found(fio, "offset 20480")
