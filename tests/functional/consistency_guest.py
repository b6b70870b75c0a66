# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory, clocks and vCPUs of a guest that never rests go on as if nothing had happened."""

from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads.clocks import Clocks
from cprtest.workloads.cpu import CpuBurn
from cprtest.workloads.journal import DiskJournal
from cprtest.workloads.memory import MemoryPattern
from cprtest.workloads.reads import DeviceReads
from cprtest.workloads.tcp import TcpStreams, to_guest
from cprtest.workloads.vsock import VsockStreams

_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"

_FEW_MIB = 130
"""MiB of the guest's free memory that are left alone, of some 170."""


class Everything(CprTest):
    """What the tests below share."""

    def everything(self, transfers: int, *more, **how):
        """more: loads besides, made from the guest."""
        disk = self.disk()
        guest = self.boot(disk=disk, **how)
        memory = MemoryPattern.beside_others(guest)
        journal = DiskJournal(guest)
        loads = [memory, Clocks(guest), CpuBurn(guest), journal]
        loads += [make(guest) for make in more]
        self.cross(guest, *loads, transfers=transfers)
        guest.machine.quit()
        journal.check_image(self.bed.contents(disk))


@needs("qemu:cpr-transfer")
class GuestConsistency(Everything):
    """
    :avocado: tags=full
    """

    def test_memory(self):
        """Memory holds what the guest wrote, after a hand-over: all that the guest had free but 40 MiB."""
        guest = self.boot()
        memory = MemoryPattern(guest)
        self.cross(guest, memory)
        self.assertGreater(memory.size, 0.4 * (guest.spec.memory_mib << 20))

    def test_memory_of_two_vcpus(self):
        """The same, written by two vCPUs."""
        guest = self.boot(vcpus=2)
        self.cross(guest, MemoryPattern(guest))

    def test_memory_in_a_file(self):
        """The same with memory in a file of /dev/shm."""
        guest = self.boot(memory="shm")
        self.cross(guest, MemoryPattern(guest))

    @needs("kvm", "qemu:vfio-cpr", "vfio:nvme")
    def test_memory_beside_dma(self):
        """The same while an assigned NVMe drive writes to the guest's memory all the time."""
        guest = self.boot(passthrough=["nvme"])
        memory = MemoryPattern.beside_others(guest, _FEW_MIB)
        self.cross(guest, memory, DeviceReads(guest, guest.passthrough[0], 2))

    @needs("hugepages")
    def test_memory_in_huge_pages(self):
        """The same with memory in 2 MiB pages."""
        guest = self.boot(memory="hugepages")
        self.cross(guest, MemoryPattern(guest))

    def test_huge_pages_of_the_guest(self):
        """Memory that the guest itself has in 2 MiB pages holds what it wrote."""
        guest = self.boot()
        # Linux does without them in guests of less than 512 MiB.
        guest.run("echo always >/sys/kernel/mm/transparent_hugepage/enabled")
        memory = MemoryPattern(guest)
        memory.wait_progress()
        used = "grep -h AnonHugePages /proc/[0-9]*/smaps_rollup 2>/dev/null | cat"
        self.assertRegex(guest.run(used), r"AnonHugePages: +[1-9]\d{3,} kB")
        self.cross(guest, memory)

    def test_memory_above_4_gib(self):
        """The same with memory above the hole for PCI, in a guest of 3 GiB."""
        guest = self.boot(memory_mib=3072)
        # Linux takes from the top first. All 3 GiB would take minutes under TCG.
        memory = MemoryPattern(guest, keep_mib=2600)
        self.cross(guest, memory)
        self.assertGreater(memory.highest, 4 << 30)

    def test_memory_on_pc(self):
        """The same on machine type pc."""
        guest = self.boot(machine="pc")
        self.cross(guest, MemoryPattern(guest))

    def test_clocks(self):
        """Monotonic clock, wall clock and TSC never step back or run ahead, and timers fire (C-18)."""
        guest = self.boot()
        self.cross(guest, Clocks(guest))

    @needs("kvm")
    def test_clocks_with_kvm(self):
        """The same of a guest with KVM, which has its time from kvmclock."""
        guest = self.boot()
        self.assertEqual(guest.run(f"cat {_CLOCKSOURCE}").strip(), "kvm-clock")
        self.cross(guest, Clocks(guest))

    def test_clocks_of_four_vcpus(self):
        """The same on four vCPUs, each compared with the others."""
        guest = self.boot(vcpus=4)
        self.cross(guest, Clocks(guest))

    def test_vcpus(self):
        """Two vCPUs that never rest go on where they were, with the right results."""
        guest = self.boot(vcpus=2)
        self.cross(guest, CpuBurn(guest))

    def test_eight_vcpus(self):
        """The same with eight vCPUs."""
        guest = self.boot(vcpus=8)
        self.cross(guest, CpuBurn(guest))

    def test_all_together(self):
        """Memory, clocks, vCPUs and disk together, through a hand-over."""
        self.everything(1)

    def test_all_together_twenty_times(self):
        """The same through twenty hand-overs (C-32)."""
        self.everything(20)


@needs("qemu:cpr-transfer")
class MoreGuests(Everything):
    """
    :avocado: tags=full
    """

    @needs("kernel:trixie-backports")
    def test_all_together_on_the_newest_kernel(self):
        """The same in a guest with Debian's newest kernel and two vCPUs."""
        self.everything(1, kernel="trixie-backports", vcpus=2)

    @needs("tun", "netns", "qemu:tap-cpr")
    def test_all_together_with_network(self):
        """The same with TCP streams through its NIC."""
        self.everything(1, self.streams, net=Tap(vhost=False))

    @needs("kvm", "vhost-net", "vhost-vsock", "root", "qemu:tap-cpr")
    def test_all_together_with_kvm(self):
        """Memory, clocks and disk with KVM, streams through kernel vhost and over vhost-vsock, together."""
        guest = self.boot(disk=self.disk(), net=Tap(vhost=True), vsock=True)
        # In an emulated lab one slow vCPU has to serve them all: little memory, many rests.
        memory = MemoryPattern.beside_others(guest, _FEW_MIB)
        loads = (
            memory,
            Clocks(guest),
            DiskJournal(guest),
            self.streams(guest, 1),
            VsockStreams(guest, connections=1, pause_us=500_000),
        )
        self.cross(guest, *loads)

    def streams(self, guest, connections: int = 2):
        return TcpStreams(guest, to_guest(self.network), connections, pause_us=500_000)

    def test_all_together_on_pc(self):
        """The same on machine type pc with two vCPUs."""
        self.everything(1, machine="pc", vcpus=2)

    def test_memory_is_not_sent(self):
        """Not a page of the guest's memory goes through the stream: it is handed over (C-09)."""
        guest = self.boot()
        MemoryPattern(guest).wait_progress()
        outcome = self.transfer(guest, keep_source=True)
        outcome.assert_completed()
        sent = outcome.source.qmp.command("query-migrate")["ram"]
        pages = {kind: sent[kind] for kind in ("normal", "duplicate")}
        self.assertEqual(pages, {"normal": 0, "duplicate": 0}, f"pages sent {tag('stream')}")
