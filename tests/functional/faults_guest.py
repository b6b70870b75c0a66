# SPDX-License-Identifier: GPL-2.0-or-later
"""The run state of before the transfer is the one after it: a paused guest stays paused (C-11)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import cpr_channel as cpr
from cprtest.faults import main_channel as main
from cprtest.faults.monitor import Command
from cprtest.faults.process import Killed
from cprtest.faults.stations import Acquired, At, Handover, Streaming
from cprtest.faults.target import MainRefused
from cprtest.faulttest import FaultTest
from cprtest.guest.guest import Guest
from cprtest.limits import wait_until
from cprtest.needs import needs
from cprtest.test import Tap
from cprtest.timeline.timeline import tag

RECONFIGURE = (
    "n=0; while :; do ethtool -L eth0 combined $((n % 2 + 1)); ip link set eth0 mtu $((1400 + n % 100)); "
    "n=$((n + 1)); echo $n >/run/next; mv /run/next /run/rounds; done"
)
CANCELLED = Expected(reported=("cancelled",))
ATTEMPTS = 8
"""Enough for what an earlier failure left behind to come up, if it comes within a second."""


@needs("qemu:cpr-transfer")
class GuestState(FaultTest):
    """
    :avocado: tags=full
    """

    def test_paused(self):
        """A guest that was paused before a transfer that fails is paused after it, whatever failed (C-11)."""
        faults = [
            cpr.Refused(),
            cpr.Cut(0),
            MainRefused(),
            main.Cut(0),
            main.Cut(100_000),
            At(Handover(), Killed("target")),
            At(Streaming(), Killed("target")),
        ]
        cancelled = [At(station(), Command("migrate_cancel")) for station in (Handover, Acquired, Streaming)]
        cases = [Case(fault, before=self.pause, after=self.still_paused) for fault in faults]
        cases += [Case(fault, CANCELLED, before=self.pause, after=self.still_paused) for fault in cancelled]
        self.strike(cases)

    def test_suspended(self):
        """A guest that sleeps (ACPI S3) before a transfer that fails sleeps after it, and can be woken."""
        faults = [MainRefused(), cpr.Cut(0), main.Cut(50_000), At(Acquired(), Killed("target"))]
        for fault in faults:  # each with a guest of its own, that never slept before
            case = Case(fault, before=Guest.suspend, after=self.still_suspended)
            self.strike([case], self.campaign(disk=None))

    @needs("tun", "netns")
    def test_reconfiguring(self):
        """A guest that changes queues and MTU of its NIC without rest is handed over, or comes back."""
        faults = [MainRefused(), main.Cut(0), main.Cut(100_000)]
        faults += [At(station(), Killed("target")) for station in (Handover, Acquired, Streaming)]
        campaign = self.campaign(net=Tap(vhost=False, queues=2), load=self.reconfiguring)
        self.strike([Case(fault) for fault in faults], campaign)

    def test_paused_after_a_failure(self):
        """A guest that is paused after a transfer that failed stays so, whatever else fails (C-11, C-35)."""
        guest = self.boot()
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        self.pause(guest)
        seen = len(guest.machine.qmp.events)
        for _ in range(ATTEMPTS):
            self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        resumed = [event for event in guest.machine.qmp.events[seen:] if event.name == "RESUME"]
        self.assertEqual(resumed, [], f"who resumed it? {tag('rollback')}")
        self.still_paused(guest)

    def reconfiguring(self, guest):
        guest.run(f"({RECONFIGURE}) >/dev/null 2>&1 </dev/null &")

        def goes_on():
            before = int(guest.run("cat /run/rounds"))
            wait_until("queues and MTU to change", lambda: int(guest.run("cat /run/rounds")) > before, 10)

        wait_until("queues and MTU to change", lambda: guest.succeeds("test -e /run/rounds"), 10)
        return goes_on

    def still_suspended(self, guest):
        self.assertEqual(guest.machine.run_state(), "suspended")
        guest.wake()

    def pause(self, guest):
        guest.machine.qmp.command("stop")

    def still_paused(self, guest):
        self.assertEqual(guest.machine.run_state(), "paused")
        guest.machine.qmp.command("cont")
