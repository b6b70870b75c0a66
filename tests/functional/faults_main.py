# SPDX-License-Identifier: GPL-2.0-or-later
"""The main channel fails, at any byte: the guest is back on the source, and the next transfer succeeds."""

import random

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import main_channel as main
from cprtest.faults.by_program import ByProgram
from cprtest.faults.full_listener import EarlierHangs, NeverAccepted
from cprtest.faults.monitor import Capability
from cprtest.faults.process import Killed
from cprtest.faults.stations import At, Committed
from cprtest.faults.target import MainRefused
from cprtest.faulttest import FaultTest
from cprtest.needs import needs
from cprtest.test import Tap

COMPLETED = Expected("completed", ("completed",))
IN_DOUBT = Expected("in-doubt", ("failed",), "the target may be running it")
ACKNOWLEDGED = ("trace:migration_cpr_commit",)
CANCELLED = Expected(reported=("cancelled",))


@needs("qemu:cpr-transfer")
class MainChannel(FaultTest):
    """
    :avocado: tags=full
    """

    def test_not_there(self):
        """The main channel is refused, by the address or by the listener, or never accepted (C-06)."""
        self.strike(
            [
                Case(MainRefused(), Expected(error="Failed to connect")),
                Case(main.NoSuchProgram()),
                Case(NeverAccepted(), CANCELLED),
                Case(EarlierHangs(), Expected(error="yank")),
            ]
        )

    def test_cut_at_every_section(self):
        """The main channel is cut at the beginning of each section of the stream."""
        campaign, starts = self.sections()
        self.strike([Case(main.Cut(start)) for start in starts], campaign)

    def test_cut_anywhere(self):
        """The main channel is cut somewhere within a section, at places that a seed gives."""
        campaign, starts = self.sections()
        places = random.Random(6).sample(range(starts[-1]), 10)
        self.strike([Case(main.Cut(place)) for place in places], campaign)

    def test_stream_changed(self):
        """What tells sections apart is changed on the way: the target refuses the stream."""
        campaign, starts = self.sections()
        header = {"magic": 0, "version": 4, "first-section": 8}
        faults = [main.Changed(at, name=name) for name, at in header.items()]
        faults += [main.BoundaryChanged(n) for n in range(10, len(starts), 8)]
        faults += [main.BoundaryChanged(n, footer=True) for n in range(12, len(starts), 8)]
        self.strike([Case(fault) for fault in faults], campaign)

    def test_stalled(self):
        """The main channel stands still: `migrate_cancel` brings the guest back."""
        self.strike(
            [Case(main.Stalled(count), CANCELLED) for count in (0, 8, 5000, 50_000, 100_000, 140_000)]
        )

    def test_slow(self):
        """A slow main channel delays the transfer, and nothing else."""
        self.strike([Case(main.Slow(block, 0.002), COMPLETED) for block in (500, 4096)])

    @needs("tun", "netns")
    def test_tcp(self):
        """The main channel by TCP: cut, reset, stalled and slow are as by UNIX socket."""
        cuts = (0, 8, 5000, 100_000)
        cases = [Case(main.Cut(count).by_tcp(reset=reset)) for count in cuts for reset in (False, True)]
        stalled = Case(main.Stalled(50_000).by_tcp(), CANCELLED)
        slow = Case(main.Slow(4096, 0.002).by_tcp(), COMPLETED)
        self.strike([*cases, stalled, slow], self.campaign(net=Tap(vhost=False)))

    def test_by_program(self):
        """The main channel goes through programs: all of it, or until one of them ends."""
        cut = [Case(ByProgram(count)) for count in (0, 1000, 50_000)]
        self.strike([Case(ByProgram(), COMPLETED), *cut])

    def test_multifd_of_one_side(self):
        """The source wants several channels for the stream, the target has one: one of them has the guest.

        Which is a matter of timing, as only the memory of a QEMU that is not cpr would need them (D-014).
        """
        self.strike([Case(Capability("multifd"), Expected("either")) for _ in range(4)])

    def test_way_back_cut(self):
        """The way back is cut before the target's acknowledgement: the guest is back on the source."""
        self.strike([Case(main.Cut(count, back=True), needs=ACKNOWLEDGED) for count in (0, 4, 8, 12)])

    def test_cut_after_the_commit(self):
        """The target may have been told to run the guest, and is lost: the source does not (C-29)."""
        cases = [
            Case(main.Cut(16, back=True, name="after-acknowledgement"), IN_DOUBT, ACKNOWLEDGED),
            Case(At(Committed(), Killed("target")), IN_DOUBT, ACKNOWLEDGED),
        ]
        self.strike(cases)
        self.strike(
            [Case(main.Cut(16, back=True, name="no-disk"), IN_DOUBT, ACKNOWLEDGED)], self.campaign(disk=None)
        )

    def sections(self):
        """A campaign, and where the sections of its guest's stream begin."""
        campaign = self.campaign()
        recorded = main.Recorded()
        campaign.transfer(recorded).assert_completed()
        return campaign, main.section_boundaries(bytes(recorded.relay.forward.recorded))
