# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots taken while the guest writes cross a hand-over, each with what was durable then, and no more."""

from cprtest import snapshots
from cprtest.faults.stations import Acquired, At, Meanwhile
from cprtest.faults.target import MainRefused
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.journal import DiskJournal


@needs("qemu:cpr-transfer")
class Snapshots(CprTest):
    """
    :avocado: tags=full
    """

    def test_inside_the_image(self):
        """Of three snapshots, one of each QEMU, one is deleted later; the others stay as they were."""
        self.three_and_one_deleted(format="qcow2")

    def test_virtio_scsi(self):
        """The same on virtio-scsi, with io_uring and discard."""
        self.three_and_one_deleted(format="qcow2", bus="virtio-scsi", aio="io_uring", discard=True)

    def test_target_has_the_image_open(self):
        """A snapshot that is taken when the target has the image open already is there on the target."""
        self.begin(format="qcow2")
        late = Meanwhile("snapshot", "a snapshot was taken", lambda t: self.take("late", t.source))
        self.hand_over(fault=At(Acquired(), late))
        self.judge()

    def test_rollback(self):
        """A hand-over that fails after a snapshot, then one that succeeds (C-30)."""
        self.begin(format="qcow2")
        self.take("before")
        self.transfer(self.guest, fault=MainRefused()).assert_rolled_back()
        self.hand_over()
        self.judge()

    def test_overlays(self):
        """Each QEMU puts an image on top, on a raw one first, which the next opens; none below changes."""
        self.begin()
        below = []
        for _ in range(3):
            disk, before = self.disk_now, self.journal.lasts
            self.disk_now = snapshots.external(self.guest, disk)
            below.append((disk, before, self.journal.lasts))
            self.hand_over()
        self.judge()
        for disk, before, after in below:
            self.bed.check_image(disk)
            self.journal.check_snapshot(self.bed.contents(disk), before, after)

    def three_and_one_deleted(self, **disk):
        self.begin(**disk)
        for name in ("first", "second", "third"):
            self.take(name)
            self.hand_over()
        self.journal.wait_progress()
        snapshots.delete(self.guest.machine, self.disk_now, "second")
        del self.spans["second"]
        self.hand_over()
        self.judge()

    def begin(self, **disk):
        self.disk_now = self.disk(**disk)
        self.guest = self.boot(disk=self.disk_now)
        self.journal = DiskJournal(self.guest)
        self.journal.wait_progress()
        # Of each snapshot: the last record of each writer before it, and after it.
        self.spans = {}

    def take(self, name, machine=None):
        before = self.journal.lasts
        snapshots.internal(machine or self.guest.machine, self.disk_now, name)
        self.spans[name] = (before, self.journal.lasts)

    def hand_over(self, **how):
        self.journal.wait_progress()
        self.transfer(self.guest, **how).assert_completed()

    def judge(self):
        self.journal.wait_progress()
        self.journal.stop()
        self.guest.machine.quit()
        self.bed.check_image(self.disk_now)
        self.journal.check_image(self.bed.contents(self.disk_now))
        self.assertEqual(self.bed.snapshots(self.disk_now), list(self.spans))
        for name, span in self.spans.items():
            self.journal.check_snapshot(self.bed.contents(self.disk_now, name), *span)
