# SPDX-License-Identifier: GPL-2.0-or-later
"""Other ways to hand a guest over, which the downtime benchmark compares cpr-transfer with, keep its data."""

from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.data import DiskData, MemoryData


@needs("qemu:cpr-transfer")
class OtherModes(CprTest):
    """
    :avocado: tags=full
    """

    def test_live(self):
        """Live migration on one host, memory copied while the guest runs, keeps memory and disk."""
        self.is_handed_over("live")

    def test_reboot(self):
        """cpr-reboot with memory in a file of /dev/shm, without the reboot, keeps memory and disk."""
        self.is_handed_over("cpr-reboot", memory="shm")

    def is_handed_over(self, mode: str, **boot):
        guest = self.boot(disk=self.disk(), **boot)
        data = [MemoryData(guest), DiskData(guest)]
        self.transfer(guest, mode=mode).assert_completed()
        for part in data:
            part.check()
