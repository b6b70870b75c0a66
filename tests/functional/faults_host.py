# SPDX-License-Identifier: GPL-2.0-or-later
"""The host is short of something, or changes on the way: one side has the guest, and says why (C-37)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults.command_line import OtherTarget, starved
from cprtest.faults.host import InterfaceDeleted, LinkDown
from cprtest.faults.stations import Acquired, At, Handover, Streaming
from cprtest.faulttest import FaultTest
from cprtest.needs import needs
from cprtest.test import Tap
from cprtest.workloads import echo

COMPLETED = Expected("completed", ("completed",))


@needs("qemu:cpr-transfer")
class Host(FaultTest):
    """
    :avocado: tags=full
    """

    def test_starved_target(self):
        """A target that gets a CPU only when nobody else wants it takes its time, and takes over."""
        self.strike([Case(OtherTarget("starved", starved), COMPLETED)])

    @needs("tun", "netns")
    def test_link_down(self):
        """The tap's link is down on the way: packets wait, the stream goes on when it is up again."""
        actions = [At(station(), LinkDown(self.network)) for station in (Handover, Acquired, Streaming)]
        campaign = self.campaign(
            net=Tap(vhost=False), load=lambda guest: echo.tcp(guest, self.network).wait_progress
        )
        self.strike([Case(fault, COMPLETED) for fault in actions], campaign)

    @needs("tun", "netns", "qemu:tap-cpr")
    def test_interface_deleted(self):
        """The tap's interface is deleted on the way: the target refuses it, the guest goes on (C-20)."""
        campaign = self.campaign(net=Tap(vhost=False), followed=False)
        self.strike([Case(At(Handover(), InterfaceDeleted(self.network)))], campaign)
