# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest was told is durable is in the image, whole, and nothing else is (C-08, C-29)."""

from cprtest.faults.target import MainRefused
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.timeline.timeline import tag
from cprtest.workloads.discards import Discards
from cprtest.workloads.journal import DiskJournal
from cprtest.workloads.parts import divide


class Journaled(CprTest):
    """What the tests below share."""

    def journal_crosses(self, disk, transfers: int = 1, **options):
        guest = self.boot(disk=disk)
        journal = DiskJournal(guest, **options)
        for _ in range(transfers):
            journal.wait_progress()
            self.transfer(guest).assert_completed()
        self.judge(guest, disk, journal)

    def judge(self, guest, disk, journal):
        journal.wait_progress()
        journal.stop()
        guest.machine.quit()
        self.bed.check_image(disk)
        journal.check_image(self.bed.contents(disk))


@needs("qemu:cpr-transfer")
class DiskConsistency(Journaled):
    """
    :avocado: tags=full
    """

    def test_raw(self):
        """A raw image on virtio-blk holds every acknowledged record after a hand-over."""
        self.journal_crosses(self.disk())

    def test_qcow2(self):
        """A qcow2 image that grows meanwhile holds every acknowledged record, and is consistent itself."""
        self.journal_crosses(self.disk(format="qcow2"))

    def test_two_disks(self):
        """Each of two disks is what it was, and not the other, as the guest reads them on the target."""
        disks = [self.disk(), self.disk(index=1)]
        guest = self.boot(disk=disks)
        for disk in disks:
            guest.run(f"echo {disk.id} | dd of={disk.guest_name} bs=512 conv=sync,fsync 2>/dev/null")
        self.transfer(guest).assert_completed()
        guest.run("echo 3 >/proc/sys/vm/drop_caches")
        for disk in disks:
            held = guest.run(f"head -n 1 {disk.guest_name}").strip()
            self.assertEqual(held, disk.id, f"{disk.guest_name} {tag('acquire')}")

    def test_virtio_scsi(self):
        """The same on virtio-scsi."""
        self.journal_crosses(self.disk(bus="virtio-scsi"))

    def test_io_uring(self):
        """The same with io_uring."""
        self.journal_crosses(self.disk(aio="io_uring"))

    def test_native(self):
        """The same with Linux's native AIO and O_DIRECT on the host."""
        self.journal_crosses(self.disk(aio="native"))

    def test_twenty_transfers(self):
        """Writers that never rest cross twenty hand-overs."""
        self.journal_crosses(self.disk(format="qcow2"), transfers=20, pause_us=0)

    def test_rollback(self):
        """A hand-over that fails, then one that succeeds: every acknowledged record is there (C-30)."""
        disk = self.disk()
        guest = self.boot(disk=disk)
        journal = DiskJournal(guest)
        journal.wait_progress()
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        journal.wait_progress()
        self.transfer(guest).assert_completed()
        self.judge(guest, disk, journal)

    def test_crash_of_the_target(self):
        """The target is killed in the middle of writing: every acknowledged record is in the image."""
        disk = self.disk(format="qcow2")
        guest = self.boot(disk=disk)
        journal = DiskJournal(guest, pause_us=0)
        self.transfer(guest).assert_completed()
        journal.wait_progress()
        guest.machine.kill()
        journal.check_image(self.bed.contents(disk))


@needs("qemu:cpr-transfer")
class DiscardedDisk(Journaled):
    """
    :avocado: tags=full
    """

    def test_qcow2(self):
        """A guest that discards a part of a qcow2 image, again and again, crosses five hand-overs."""
        self.discards_cross(self.disk(format="qcow2", discard=True), transfers=5)

    def test_raw(self):
        """The same with holes in a raw file, by io_uring."""
        self.discards_cross(self.disk(aio="io_uring", discard=True, local=True))

    def test_virtio_scsi(self):
        """The same with UNMAP of virtio-scsi."""
        self.discards_cross(self.disk(bus="virtio-scsi", format="qcow2", discard=True))

    def test_rollback(self):
        """A hand-over that fails while the guest discards, then one that succeeds (C-30)."""
        self.discards_cross(self.disk(format="qcow2", discard=True), fault=MainRefused())

    def discards_cross(self, disk, transfers: int = 1, fault=None):
        """Beside the writers, on one disk: all records are there, and what was discarded last is zero."""
        guest = self.boot(disk=disk)
        kept, discarded = divide(guest, disk, (60, 1))
        journal, discards = DiskJournal(guest, part=kept), Discards(guest, discarded)
        if fault:
            discards.wait_progress()
            self.transfer(guest, fault=fault).assert_rolled_back()
        self.cross(guest, journal, discards, transfers=transfers)
        guest.machine.quit()
        self.bed.check_image(disk)
        contents = self.bed.contents(disk)
        journal.check_image(contents)
        discards.check_image(contents)


@needs("qemu:cpr-transfer")
class DiskOnIoThread(Journaled):
    """Apart from the others, because QEMU loses an interrupt here now and then (D-010).

    :avocado: tags=soak
    """

    def test_virtio_blk(self):
        """A virtio-blk disk with an I/O thread, its writers never at rest, crosses twenty hand-overs."""
        self.journal_crosses(self.disk(iothread=True), transfers=20, pause_us=0)

    def test_virtio_scsi(self):
        """The same with an I/O thread for a virtio-scsi controller and a qcow2 image."""
        disk = self.disk(bus="virtio-scsi", format="qcow2", iothread=True)
        self.journal_crosses(disk, transfers=20, pause_us=0)
