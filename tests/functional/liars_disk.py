# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk journal's checker finds what was planted in the image, and names the place."""

from cprtest.faults import plants
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.discards import Discards
from cprtest.workloads.journal import DiskJournal
from cprtest.workloads.parts import divide


@needs("qemu:cpr-transfer")
class LyingDisk(CprTest):
    """
    :avocado: tags=full
    """

    def test_flipped_byte(self):
        """A byte that changed in a record is found."""
        disk, journal = self.written()
        at = journal.offset(1, 2)
        plants.flip(disk.image, at + 100)
        self.assert_found(journal, f"byte {at:#x} of the image: record 2 of writer 1 is torn")

    def test_lost_write(self):
        """A record that was acknowledged and is not there is found."""
        disk, journal = self.written()
        at = journal.offset(2, 1)
        plants.write(disk.image, at, bytes(plants.PAGE * 4))
        self.assert_found(journal, f"byte {at:#x} of the image: record 1 of writer 2 is missing")

    def test_misplaced_write(self):
        """A record in the place of another is found."""
        disk, journal = self.written()
        at = journal.offset(0, 2)
        plants.write(disk.image, at, plants.read(disk.image, journal.offset(0, 1), plants.PAGE * 4))
        self.assert_found(
            journal, f"byte {at:#x} of the image: record 1 of writer 0 is where record 2 should be"
        )

    def test_write_from_the_future(self):
        """A record that the guest had not written when it ended is found: somebody else went on writing."""
        disk, journal = self.written()
        future = journal.last(0) + 5
        at = journal.offset(0, future)
        plants.write(disk.image, at, journal.forged(0, future))
        self.assert_found(
            journal, f"byte {at:#x} of the image: record {future} of writer 0 is from the future"
        )

    def test_snapshot_with_too_much(self):
        """A record in a snapshot that the guest wrote after it was taken is found."""
        disk, journal = self.written()
        newest, *others = journal.lasts
        journal.check_snapshot(disk.image, [0, *others], [newest - 1, *others])
        span = [newest - 2, *others]  # and one more may have been on its way
        at = journal.offset(0, newest)
        with self.assertRaises(AssertionError) as raised:
            journal.check_snapshot(disk.image, span, span)
        wanted = f"byte {at:#x} of the image: record {newest} of writer 0 is from the future"
        self.assertIn(wanted, str(raised.exception))
        self.assertNotIn(";", str(raised.exception), "one thing was planted, more was found")

    def test_data_where_all_was_discarded(self):
        """A byte that is not zero, though the guest discarded it last, is found."""
        disk, discards, part = self.discarded(self.disk(discard=True, local=True))
        discards.check_image(disk.image)
        plants.flip(disk.image, part.start + part.size - 1)
        with self.assertRaisesRegex(
            AssertionError, f"byte {part.start + part.size - 1:#x} of the image: not zero"
        ):
            discards.check_image(disk.image)

    def test_discards_ignored(self):
        """A disk that says that it discards, and does not, is found by the guest."""
        _, discards, _ = self.discarded(self.disk(), "kept")
        with self.assertRaisesRegex(AssertionError, "reads something else than zeros after a discard"):
            discards.check()

    def test_change_under_the_guest(self):
        """The guest itself notices a record that changed on its disk while the VM was stopped."""
        guest = self.boot(disk=self.disk())
        journal = DiskJournal(guest, writers=1)
        journal.wait_progress()
        guest.machine.qmp.command("stop")
        plants.flip(journal.disk.image, journal.offset(0, 0) + 100)
        guest.machine.qmp.command("cont")
        journal.wait_for("changed")
        with self.assertRaisesRegex(AssertionError, "read something else than it had written as record 0"):
            journal.check()

    def written(self):
        """A disk whose journals went through a transfer; all is well with it, and QEMU has ended."""
        disk = self.disk()
        guest = self.boot(disk=disk)
        journal = DiskJournal(guest)
        journal.wait_progress()
        self.transfer(guest).assert_completed()
        journal.wait_progress()
        journal.stop()
        guest.machine.quit()
        journal.check_image(disk.image)
        return disk, journal

    def discarded(self, disk, wanted="discard"):
        """A disk on which the guest discarded a part, with the outcome `wanted`; QEMU has ended."""
        guest = self.boot(disk=disk)
        (part,) = divide(guest, disk, (1,))
        discards = Discards(guest, part)
        discards.wait_for(wanted)
        discards.stop()
        guest.machine.quit()
        return disk, discards, part

    def assert_found(self, journal, text: str):
        with self.assertRaises(AssertionError) as raised:
            journal.check_image(journal.disk.image)
        self.assertIn(text, str(raised.exception))
        self.assertNotIn(";", str(raised.exception), "one thing was planted, more was found")
