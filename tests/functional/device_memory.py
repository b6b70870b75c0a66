# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of devices, which is not the guest's RAM, holds what the guest wrote, all of it (C-14)."""

from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.bar import BarPattern, vga


@needs("qemu:cpr-transfer")
class DeviceMemory(CprTest):
    """
    :avocado: tags=full
    """

    def test_vga(self):
        """The 16 MiB of a VGA card, whose descriptor is handed over, through three hand-overs."""
        guest = self.boot(vga=True)
        pattern = BarPattern(guest, vga(guest), 0)
        self.cross(guest, pattern, transfers=3)
        self.assertEqual(pattern.size, 16 << 20)

    @needs("kvm", "qemu:vfio-cpr", "vfio:ivshmem")
    def test_ivshmem(self):
        """The 64 MiB BAR of a passthrough device."""
        guest = self.boot(passthrough=["ivshmem"])
        pattern = BarPattern(guest, guest.passthrough[0].guest_path, 2)
        self.cross(guest, pattern)
        self.assertEqual(pattern.size, 64 << 20)


@needs("qemu:cpr-transfer")
class LyingDeviceMemory(CprTest):
    """
    :avocado: tags=full
    """

    def test_zeroed_page(self):
        """A page of a card's memory that is zero after the hand-over is found."""
        self.poked(bytes(4096), "is zero")

    def test_foreign_page(self):
        """A page that holds another page's contents is found."""
        self.poked(None, "is foreign")

    def test_damaged_word(self):
        """Seven bytes that changed in a page are found."""
        self.poked(b"\xff" * 7, "is damaged")

    def poked(self, contents: bytes | None, text: str):
        guest = self.boot(vga=True)
        pattern = BarPattern(guest, vga(guest), 0)
        pattern.wait_progress()
        self.transfer(guest).assert_completed()
        pattern.wait_progress()
        guest.machine.qmp.command("stop")
        offset = pattern.poke(contents)
        guest.machine.qmp.command("cont")
        pattern.wait_for("bad")
        pattern.stop()
        with self.assertRaises(AssertionError) as raised:
            pattern.check()
        self.assertIn(f"device memory at {offset:#x} {text}", str(raised.exception))
        self.assertIn("[phase acquire]", str(raised.exception))
        self.assertNotIn(";", str(raised.exception), "one page was planted, more were found")
