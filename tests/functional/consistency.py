# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest has in memory and on disk is the same on the target."""

from cprtest.needs import needs
from cprtest.observe.proc import Generations
from cprtest.test import CprTest
from cprtest.workloads.data import DiskData, MemoryData
from cprtest.workloads.fio import FioWriter

CHAIN = 5


@needs("qemu:cpr-transfer")
class Consistency(CprTest):
    """
    :avocado: tags=smoke
    """

    def test_memory_and_disk(self):
        """A guest with a disk is handed over: it lives on, with its memory and its disk as they were."""
        guest = self.boot(disk=self.disk())
        data = [MemoryData(guest), DiskData(guest)]
        self.transfer(guest).assert_completed()
        for part in data:
            part.check()

    def test_qcow2_disk(self):
        """A qcow2 image that grows before and after the hand-over holds what was written (C-08, C-29)."""
        disk = self.disk(format="qcow2")
        guest = self.boot(disk=disk)
        data = DiskData(guest)
        self.transfer(guest).assert_completed()
        data.check()
        data.check()
        guest.machine.quit()
        self.bed.check_image(disk)

    def test_fio_across(self):
        """Every block that fio wrote before, during and after the hand-over holds what was written."""
        guest = self.boot(disk=self.disk(), tools=True)
        fio = FioWriter(guest)
        fio.wait_progress()
        self.transfer(guest).assert_completed()
        fio.wait_progress()
        fio.verify()

    def test_chain_of_transfers(self):
        """Five transfers in a row, each target the next source: data intact, no descriptor more (C-32)."""
        guest = self.boot(disk=self.disk())
        data = [MemoryData(guest), DiskData(guest)]
        generations = Generations()
        generations.check(guest.machine)
        for _ in range(CHAIN):
            self.transfer(guest).assert_completed()
            for part in data:
                part.check()
            generations.check(guest.machine)
