# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand cases: the channels fail at any byte, calls with any error, on a source that is used again.

A source that was rolled back is the source of the next case, so that a roll-back is proved by the ones that
follow it; the last case of each test is followed by a transfer that succeeds. Places are before the last
section ends: after it the target may have said yes, and nothing is rolled back.
"""

import random
from collections.abc import Sequence

from cprtest.aftermath import Expected
from cprtest.campaign import Campaign, Case
from cprtest.faults import cpr_channel as cpr
from cprtest.faults import main_channel as main
from cprtest.faults.fault import Fault
from cprtest.faults.syscalls import ERRORS, CallFails
from cprtest.faulttest import FaultTest
from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.test import Tap
from cprtest.workloads import echo

CANCELLED = Expected(reported=("cancelled",))


@needs("qemu:cpr-transfer")
class Sweep(FaultTest):
    """
    Avocado parameters: count, how many cases a test has where they are drawn (default 200); seed (default 1).

    :avocado: tags=sweep
    """

    def test_main_channel_cut(self):
        """The main channel is cut at every section's beginning, and at random bytes: rolled back (C-06)."""
        campaign, stream = self.recorded(main.Recorded())
        starts = main.section_boundaries(stream)
        drawn = self.drawn(starts[-1], max(0, 2 * self.count - len(starts)))
        self.sweep(campaign, [Case(main.Cut(place)) for place in [*starts, *drawn]])

    def test_main_channel_stalled(self):
        """The main channel stands still at random bytes, and the user cancels: rolled back."""
        campaign, stream = self.recorded(main.Recorded())
        places = self.drawn(main.section_boundaries(stream)[-1], self.count)
        self.sweep(campaign, [Case(main.Stalled(place), CANCELLED) for place in places])

    def test_cpr_channel_cut(self):
        """The cpr channel is cut at every byte of the state, or as many as there is time for: rolled back."""
        campaign, state = self.recorded(cpr.Recorded())
        places = self.drawn(len(state), min(self.count, len(state)))
        self.sweep(campaign, [Case(cpr.Cut(place)) for place in places])

    @needs("tun", "netns")
    def test_tcp(self):
        """As test_main_channel_cut by TCP, closed and reset."""
        campaign, stream = self.recorded(main.Recorded().by_tcp(), net=Tap(vhost=False))
        places = self.drawn(main.section_boundaries(stream)[-1], self.count)
        faults = [main.Cut(place).by_tcp(reset=number % 2 == 0) for number, place in enumerate(places)]
        self.sweep(campaign, [Case(fault) for fault in faults])

    @needs("seccomp-notify", "tun", "netns")
    def test_descriptors_not_sent(self):
        """Sending each of the descriptors fails with each errno of the kernel's: rolled back (C-20)."""
        gate = Gate(descriptors=True)
        self.observe(gate)
        campaign = self.campaign(
            followed=False,
            net=Tap(vhost=False, queues=2),
            load=lambda guest: echo.tcp(guest, self.network).wait_progress,
        )
        campaign.transfer().assert_completed()
        count = len(gate.events("SCM_RIGHTS", "source"))
        failures = [(error, nth) for error in ERRORS["SCM_RIGHTS"] for nth in range(1, count + 1)]
        faults = [CallFails(gate, "source", "SCM_RIGHTS", error, nth) for error, nth in failures]
        self.sweep(campaign, [Case(fault) for fault in faults])

    @property
    def count(self) -> int:
        return int(self.params.get("count", default=200))

    def drawn(self, end: int, count: int) -> list[int]:
        chance = random.Random(int(self.params.get("seed", default=1)))
        return sorted(chance.sample(range(end), count))

    def recorded(self, recorded: Fault, **guest) -> tuple[Campaign, bytes]:
        """A campaign, and what went through the channel in a transfer of its guest."""
        campaign = self.campaign(followed=False, **guest)
        campaign.transfer(recorded).assert_completed()
        return campaign, bytes(recorded.relay.forward.recorded)

    def sweep(self, campaign: Campaign, cases: Sequence[Case]) -> None:
        self.strike(cases, campaign)
        campaign.transfer().assert_completed()
