# SPDX-License-Identifier: GPL-2.0-or-later
"""The main channel fails, at any byte: the guest is back on the source, and the next transfer succeeds."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import main_channel as main
from cprtest.faults.target import MainRefused
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

CANCELLED = Expected(reported=("cancelled",))


@needs("qemu:cpr-transfer")
class MainChannel(FaultTest):
    """
    :avocado: tags=full
    """

    def test_not_there(self):
        """The main channel is refused, closed at once, or never accepted (C-06)."""
        self.strike(
            [
                Case(MainRefused(), Expected(error="Failed to connect")),
                Case(main.Closed()),
                Case(main.NeverAccepted(), CANCELLED),
            ]
        )

    def test_cut_at_every_section(self):
        """The main channel is cut at the beginning of each section of the stream."""
        campaign = self.campaign()
        recorded = main.Recorded()
        campaign.transfer(recorded).assert_completed()
        starts = main.section_boundaries(bytes(recorded.relay.forward.recorded))
        self.strike([Case(main.Cut(start)) for start in starts], campaign)
