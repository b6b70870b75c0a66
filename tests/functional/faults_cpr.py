# SPDX-License-Identifier: GPL-2.0-or-later
"""The cpr channel fails, at any byte or descriptor: the guest is back on the source."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import cpr_channel as cpr
from cprtest.faults.full_listener import CprNotAccepted
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

MEMORY = 5
"""The place of the guest's memory among the descriptors: after five areas of firmware."""
COMPLETED = Expected("completed", ("completed",))


@needs("qemu:cpr-transfer")
class CprChannel(FaultTest):
    """
    :avocado: tags=full
    """

    def test_not_there(self):
        """The cpr channel is refused, closed too early, or never closed by the target (C-21)."""
        self.strike(
            [
                Case(cpr.Refused(), Expected(error="Failed to connect")),
                Case(cpr.Cut(0, "before-the-state")),
                Case(cpr.ClosedEarly()),
                Case(cpr.NeverClosed(), Expected(reported=("cancelled",))),
            ]
        )

    def test_backlog_full(self):
        """The cpr channel's listener takes no connection: the source does not wait, and says so (D-012)."""
        self.strike([Case(CprNotAccepted(), Expected(error="Failed to connect"))])

    def test_cut_at_every_field(self):
        """The cpr channel is cut at the beginning of each field of the state: the target must not start."""
        campaign = self.campaign()
        recorded = cpr.Recorded()
        campaign.transfer(recorded).assert_completed()
        places = cpr.fields(bytes(recorded.relay.forward.recorded))
        self.strike([Case(cpr.Cut(place.position, place.field)) for place in places], campaign)

    def test_state_changed(self):
        """Wrong magic, wrong version, garbage, names that nobody knows: the target refuses the state."""
        self.strike(
            [
                Case(cpr.Changed("magic", 0, b"QEVM")),
                Case(cpr.Changed("version", 4, b"\0\0\0\2")),
                Case(cpr.Changed("garbage", 0, bytes(range(64)))),
                Case(cpr.Changed("name-length-zero", 9, b"\0\0\0\0")),
                Case(cpr.Changed("name-length-1000", 9, b"\0\0\3\xe8")),
            ]
        )

    def test_guest_memory_descriptor(self):
        """The descriptor of the guest's memory is lost or replaced: the target refuses it (C-20)."""
        replaced = [how for how in cpr.Descriptors.HOW if how.startswith(("missing", "replaced"))]
        faults = [*(cpr.Descriptors(how, MEMORY) for how in replaced)]
        self.strike([Case(fault) for fault in [*faults, cpr.Descriptors("sent-for-the-next", MEMORY - 1)]])

    def test_firmware_descriptors(self):
        """A lost descriptor shifts all that follow, which is noticed; one too many at the end harms none."""
        lost = [cpr.Descriptors(how, number) for how in ("missing", "doubled") for number in range(MEMORY)]
        surplus = Case(cpr.Descriptors("doubled", MEMORY), COMPLETED)
        self.strike([*(Case(fault) for fault in lost), surplus])

    def test_slow(self):
        """A cpr channel that carries a few bytes at a time delays the transfer, and nothing else."""
        slow = [cpr.Slow(block, 0.002) for block in (1, 7, 64)]
        self.strike([Case(fault, COMPLETED) for fault in slow])
