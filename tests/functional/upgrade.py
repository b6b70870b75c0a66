# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest goes from one version of QEMU to another and back, and notices nothing (docs/upgrade.md)."""

from cprtest.needs import needs
from cprtest.provision import installed
from cprtest.test import CprTest, Tap
from cprtest.workloads.clocks import Clocks
from cprtest.workloads.journal import DiskJournal
from cprtest.workloads.kernel_log import KernelLog
from cprtest.workloads.memory import MemoryPattern
from cprtest.workloads.tcp import TcpStreams, to_guest

MACHINE = "pc-q35-10.0"
"""The machine type of the oldest QEMU here: both sides have to be given the same."""


UNREADABLE = "vmstate_load_state error -2"
QUEUE = "VQ 0 vring.num 1024 exceeds allocated max 128"


class Versions(CprTest):
    """What the tests below share."""

    def crosses(self, *flavours: str):
        """A guest with disk, NIC, busy memory and clocks runs on each QEMU in turn."""
        self.busy_guest(*flavours)
        self.cross(self.guest, *self.loads, transfers=len(flavours) - 1)
        self.judge_image()

    def stays(self, source: str, target: str, *, said: str):
        """The target cannot take the guest, and says why; the guest goes on where it was."""
        self.busy_guest(source, target)
        kernel = KernelLog(self.guest)
        for load in self.loads:
            load.wait_progress()
        outcome = self.transfer(self.guest)
        outcome.assert_rolled_back()
        self.assertIn(said, outcome.messages["target"])
        for load in self.loads:
            load.wait_progress()
        self.finish(kernel, *self.loads)
        self.judge_image()

    def judge_image(self):
        """The last QEMU has ended: the image is as the guest left it, whoever else had it open."""
        self.guest.machine.quit()
        self.journal.check_image(self.bed.contents(self.image))

    def busy_guest(self, *flavours: str):
        self.bed.chain(*(installed.under_test(flavour) for flavour in flavours))
        self.image = self.disk()
        guest = self.guest = self.boot(disk=self.image, net=Tap(vhost=False), machine=MACHINE)
        memory = MemoryPattern.beside_others(guest)
        self.journal = DiskJournal(guest)
        streams = TcpStreams(guest, to_guest(self.network), 2)
        self.loads = (memory, Clocks(guest), streams, self.journal)


@needs("tun", "netns", "build:stock", "build:reference")
class Upgrade(Versions):
    """
    :avocado: tags=full
    """

    def test_stock_to_reference(self):
        """From released 10.2 to the same with our series."""
        self.crosses("stock", "reference")

    def test_reference_to_stock(self):
        """And back."""
        self.crosses("reference", "stock")

    @needs("build:debian-10.0")
    def test_10_0_to_stock(self):
        """From Debian's 10.0, the first release with cpr-transfer, to 10.2."""
        self.crosses("debian-10.0", "stock")

    @needs("build:debian-10.0")
    def test_stock_to_10_0(self):
        """Not back: 10.0 cannot read the cpr state of later releases, and the guest stays."""
        self.stays("stock", "debian-10.0", said=UNREADABLE)

    @needs("build:debian-10.0")
    def test_10_0_to_reference(self):
        """From Debian's 10.0 to the reference."""
        self.crosses("debian-10.0", "reference")

    @needs("build:debian-10.0")
    def test_reference_to_10_0(self):
        """Nor back from the reference."""
        self.stays("reference", "debian-10.0", said=UNREADABLE)

    @needs("build:debian-11.1")
    def test_stock_to_11_1(self):
        """From 10.2 to Debian's 11.1."""
        self.crosses("stock", "debian-11.1")

    @needs("build:debian-11.1")
    def test_11_1_to_stock(self):
        """And back."""
        self.crosses("debian-11.1", "stock")

    @needs("build:debian-11.1")
    def test_reference_to_11_1(self):
        """From the reference to Debian's 11.1."""
        self.crosses("reference", "debian-11.1")

    @needs("build:debian-11.1")
    def test_11_1_to_reference(self):
        """And back."""
        self.crosses("debian-11.1", "reference")

    @needs("build:debian-10.0", "build:debian-11.1")
    def test_11_1_to_10_0(self):
        """Nor back."""
        self.stays("debian-11.1", "debian-10.0", said=UNREADABLE)

    @needs("build:debian-11.1")
    def test_chain_there_and_back(self):
        """From 10.2 to 11.1 and back, by both builds of 10.2."""
        self.crosses("stock", "debian-11.1", "reference", "debian-11.1", "stock")


@needs("tun", "netns", "build:debian-10.0", "build:debian-11.1")
class From10To11(Versions):
    """Fails: 11.1 refuses the guest, and a source of 10.0 may have let go of it (docs/upgrade.md).

    :avocado: tags=unproven
    """

    def test_10_0_to_11_1(self):
        """From 10.0 straight to 11.1."""
        self.stays("debian-10.0", "debian-11.1", said=QUEUE)
