# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that starts anew while it is handed over comes up, on one side; one that goes off is off."""

from cprtest.errors import CprError
from cprtest.faults.power import Panics, PowersOff, Reboots
from cprtest.faults.target import MainRefused
from cprtest.limits import wait_until
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.timeline.timeline import tag

BOOT = "cat /proc/sys/kernel/random/boot_id"
MOMENTS = ((100, False), (300, False), (100, True))
"""ms after which the guest does so, and whether it has done so when it is handed over."""


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

    def test_powers_off(self):
        """A guest that switches itself off while it is handed over is off on the target only (C-34)."""
        for after, seen in MOMENTS:
            guest = self.boot(disk=self.disk(index=len(self.bed.transfers)))
            outcome = self.transfer(guest, fault=PowersOff(guest, after, seen=seen), keep_source=True)
            if outcome.survivor == "target":
                outcome.target.wait_run_state("shutdown")
            else:  # switched off when `migrate` had been given
                self.assertEqual(outcome.states["target"], "shutdown", outcome.describe())
            self.assertEqual(outcome.source.run_state(), "postmigrate", tag("complete"))
            guest.machine.quit()
            outcome.source.quit()

    def test_is_off(self):
        """A guest that is off stays so when its transfer fails, and can be handed over then (C-11)."""
        guest = self.boot()
        guest.machine.qmp.command("set-action", shutdown="pause")
        guest.run("poweroff -f </dev/null >/dev/null 2>&1 &")
        guest.machine.wait_run_state("shutdown")
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        self.transfer(guest).assert_completed()
        self.assertEqual(guest.machine.run_state(), "shutdown", tag("resume"))

    def starts_anew(self, fault):
        for after, seen in MOMENTS:
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
