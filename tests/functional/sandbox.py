# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU that is confined as libvirt confines it (-sandbox) hands guests over all the same (C-37)."""

from cprtest.campaign import Case
from cprtest.faults import cpr_channel as cpr
from cprtest.faults import main_channel as main
from cprtest.faults.process import Killed
from cprtest.faults.stations import Acquired, At, Handover
from cprtest.faults.target import MainRefused
from cprtest.faulttest import FaultTest
from cprtest.needs import needs
from cprtest.test import Tap
from cprtest.timeline.timeline import tag


@needs("qemu:cpr-transfer", "qemu:sandbox")
class Sandbox(FaultTest):
    """
    :avocado: tags=full
    """

    @needs("tun", "netns")
    def test_tap_and_disk(self):
        """Both sides are confined: the guest is handed over, and comes back after a failure."""
        self.crosses(net=Tap(vhost=False))

    @needs("vhost-net", "tun", "netns", "kvm")
    def test_vhost(self):
        """The same with a tap that uses vhost."""
        self.crosses(net=Tap(vhost=True))

    @needs("qemu:cpr-exec")
    def test_exec_denied(self):
        """A QEMU that may not start programs cannot become one: the guest is back, and the error says why."""
        guest = self.boot(sandbox=True)
        outcome = self.transfer(guest, mode="cpr-exec")
        outcome.assert_rolled_back()
        self.assertIn("Operation not permitted", outcome.error, tag("rollback"))
        guest.run("true")
        self.transfer(guest).assert_completed()
        guest.run("true")

    def crosses(self, **guest):
        faults = [
            cpr.Refused(),
            cpr.Cut(0),
            MainRefused(),
            main.Cut(100_000),
            *(At(station(), Killed("target")) for station in (Handover, Acquired)),
        ]
        campaign = self.campaign(sandbox=True, **guest)
        campaign.transfer().assert_completed()
        self.strike([Case(fault) for fault in faults], campaign)
