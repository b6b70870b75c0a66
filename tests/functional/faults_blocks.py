# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that the source cannot have back, or cannot flush: the guest does not run without them (C-30)."""

import hashlib

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.errors import CprError
from cprtest.faults.blocks import FlushFails, ImageLocked, ImageRemoved
from cprtest.faults.stations import At, Loaded, Streaming
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

HELD = Expected("held", ("failed",), "cannot be activated|lock")
ACKNOWLEDGED = ("trace:migration_cpr_commit",)
DIRTY = "dd if=/dev/urandom of=/dev/vda bs=64k seek=100 count=1 oflag=direct 2>/dev/null"


@needs("qemu:cpr-transfer")
class Blocks(FaultTest):
    """
    :avocado: tags=full
    """

    def test_image_locked(self):
        """The image is locked when the source wants it back: held, nothing written, back by `cont` (C-30)."""
        disk = self.disk()
        actions = [ImageLocked(disk.image), ImageLocked(disk.image)]
        self.strike(
            [
                self.held(Streaming(), disk, actions[0]),
                self.held(Loaded(), disk, actions[1], ACKNOWLEDGED),
            ],
            self.campaign(disk=disk),
        )

    def test_image_locked_for_the_target(self):
        """The target cannot have the image, and says so: the source is held, back by `cont` (C-30)."""
        disk = self.disk()
        action = ImageLocked(disk.image, "image-locked-for-the-target", cut=False)
        self.strike([self.held(Loaded(), disk, action, ACKNOWLEDGED)], self.campaign(disk=disk))

    def test_one_of_two_images_locked(self):
        """One of two images is locked when the source wants them back: held all the same (C-30)."""
        disks = [self.disk(), self.disk(index=1)]
        for number, name in enumerate(("first", "second")):
            action = ImageLocked(disks[number].image, f"{name}-image-locked")
            self.strike([self.held(Streaming(), disks[number], action)], self.campaign(disk=disks))
            self.bed.transfers[-1].target.quit()

    def test_image_removed(self):
        """The image's name is gone when the source wants it back: it has the file open, and goes on."""
        disk = self.disk()
        self.strike([Case(At(Streaming(), ImageRemoved(disk.image)))], self.campaign(disk=disk))

    def test_flush_fails(self):
        """A disk that cannot be flushed at the stop ends the transfer at once; the guest runs on."""
        fault = FlushFails()

        def before(guest):
            fault.install(guest.machine.qmp)
            guest.run(DIRTY)

        self.strike([Case(fault, before=before)])

    def held(self, station, disk, action, needs=()):
        """The source is held as long as `action` has the disk's image, and comes back by `cont`."""

        def after(guest):
            before = hashlib.sha256(disk.image.read_bytes()).hexdigest()
            with self.assertRaises(CprError):
                guest.machine.qmp.command("cont")
            self.assertEqual(guest.machine.run_state(), "io-error")
            self.assertEqual(hashlib.sha256(disk.image.read_bytes()).hexdigest(), before)
            action.release()
            guest.machine.qmp.command("cont")
            guest.machine.wait_run_state("running")

        return Case(At(station, action), HELD, needs, after=after, restore=action.release)
