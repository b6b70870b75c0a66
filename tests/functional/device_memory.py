# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of devices, which is not the guest's RAM, and their registers hold what the guest wrote (C-14)."""

from cprtest.faults import plants
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.workloads.bar import BarPattern, vga
from cprtest.workloads.passthrough import exerciser
from cprtest.workloads.registers import Registers
from cprtest.workloads.roms import FIRMWARE, Roms


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

    @needs("tun", "netns")
    def test_roms(self):
        """Firmware and option ROMs, which a target must not fill from its own files."""
        guest = self.boot(vga=True, net=Tap(vhost=False))
        roms = Roms(guest)
        self.assertEqual(roms.option_roms, 2)
        self.transfer(guest).assert_completed()
        roms.check()

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

    def test_firmware(self):
        """Bytes of the firmware that another file put there are found, and only they."""
        guest = self.boot(vga=True)
        roms = Roms(guest)
        roms.check()
        self.transfer(guest).assert_completed()
        address = FIRMWARE + (100 << 10)
        plants.poke(guest.machine, address, b"\xcc" * 8)
        found = rf"^firmware at {address:#x} was 0x\w+ and is 0xC{{16}}(?!.*,)"
        self.assertRaisesRegex(AssertionError, found, roms.check)

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


class InUse(CprTest):
    """What the tests below share."""

    def in_use(self, role: str):
        guest = self.boot(passthrough=[role])
        (device,) = guest.passthrough
        exerciser(guest, device, lambda: self.network).exercise()
        return guest, Registers(guest, device)


@needs("kvm", "qemu:vfio-cpr")
class DeviceRegisters(InUse):
    """
    :avocado: tags=full
    """

    @needs("vfio:nvme")
    def test_nvme(self):
        """What a reset of an NVMe drive clears, its switch and its queues, is as it was (C-28)."""
        self.registers_cross("nvme")

    @needs("vfio:virtio-net", "netns")
    def test_virtio_net(self):
        """The same for a virtio-net NIC."""
        self.registers_cross("virtio-net")

    @needs("vfio:igb-vf", "netns")
    def test_igb_vf(self):
        """The same for a virtual function of an igb NIC."""
        self.registers_cross("igb-vf")

    @needs("vfio:e1000e", "netns")
    def test_e1000e(self):
        """The same for a NIC that only its bus can reset."""
        self.registers_cross("e1000e")

    @needs("vfio:ivshmem")
    def test_ivshmem(self):
        """The same for a device of memory, whose interrupt mask the guest set."""
        self.registers_cross("ivshmem")

    def registers_cross(self, role: str):
        guest, registers = self.in_use(role)
        self.transfer(guest).assert_completed()
        registers.check()


@needs("kvm", "qemu:vfio-cpr", "root")
class LyingRegisters(InUse):
    """
    :avocado: tags=full
    """

    @needs("vfio:nvme")
    def test_nvme_reset(self):
        """A drive that the host resets behind everybody's back is found, register by register."""
        self.reset("nvme", r"vfio-nvme: CC was 0x\w+ and is 0x0")

    @needs("vfio:virtio-net", "netns")
    def test_virtio_net_reset(self):
        """The same for a NIC."""
        self.reset("virtio-net", r"device_status was 0xf and is 0x0")

    @needs("vfio:ivshmem")
    def test_bus_reset(self):
        """The same for a device that only its bus can reset."""
        self.reset("ivshmem", r"IntrMask was 0x\w+ and is 0x0")

    def reset(self, role: str, found: str):
        guest, registers = self.in_use(role)
        registers.check()
        plants.reset(guest.passthrough[0].address)
        self.assertRaisesRegex(AssertionError, found, registers.check)
