# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that starts anew while it is handed over comes up, on one side."""

from cprtest.errors import CprError
from cprtest.faults.power import Panics, Reboots
from cprtest.limits import wait_until
from cprtest.needs import needs
from cprtest.test import CprTest

BOOT = "cat /proc/sys/kernel/random/boot_id"


@needs("qemu:cpr-transfer")
class GuestPower(CprTest):
    """
    :avocado: tags=full
    """

    def test_reboots(self):
        """A guest that reboots while it is handed over comes up on the target."""
        self.starts_anew(Reboots)

    def test_panics(self):
        """The same with a guest whose kernel panics."""
        self.starts_anew(Panics)

    def starts_anew(self, fault):
        for after, seen in ((100, False), (300, False), (100, True)):
            guest = self.boot()
            before = guest.run(BOOT)
            outcome = self.transfer(guest, fault=fault(guest, after, seen=seen))
            outcome.assert_completed()
            wait_until("the guest to boot", lambda guest=guest, old=before: self.is_up(guest, old), 60)
            guest.machine.quit()

    def is_up(self, guest, old):
        try:
            return guest.run(BOOT, seconds=1) != old
        except CprError:
            return False
