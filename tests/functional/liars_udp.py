# SPDX-License-Identifier: GPL-2.0-or-later
"""The UDP workload finds what somebody on the way did to the packets, and names the packet."""

from cprtest.faults.carrier import Carrier
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.workloads.udp import PORT, SMALL, UdpPackets


@needs("qemu:tap-cpr", "tun", "netns")
class LyingPackets(CprTest):
    """
    :avocado: tags=full
    """

    def test_changed_on_the_way_in(self):
        """A byte of a packet that changed on its way to the guest is found by the guest."""
        found = r"udp\.0's operation \d+.*: packet {} was changed: at byte 40 it has word"
        self.planted(_change, True, found)

    def test_changed_on_the_way_out(self):
        """A byte of a packet that changed on its way from the guest is found by the host."""
        self.planted(_change, False, r"udp\.host\.0's operation \d+.*: packet {} was changed: at byte 40")

    def test_cut_short(self):
        """A packet that lost its end is found."""
        self.planted(lambda held: [held[0][:-8]], True, r"udp\.0's operation \d+.*: packet {} has 56 bytes")

    def test_lost_on_the_way_in(self):
        """A packet to the guest that never arrives is found, though its neighbours did."""
        self.planted(lambda _: [], True, r"udp\.host\.0 from the host: packet {} was lost, sent while")

    def test_lost_on_the_way_out(self):
        """Two packets from the guest that never arrive are found."""
        together = r"udp\.0 from the guest: 2 packets of {0} to {1} were lost, sent while"
        one = r"udp\.0 from the guest: packet {} was lost, sent while"
        # Two where another operation of the guest came between them.
        found = f"{together}|{one.format('{0}')}.*{one.format('{1}')}"
        self.planted(lambda _: [], False, found, count=2, most=2)

    def test_doubled(self):
        """A packet that arrives twice is found."""
        found = r"udp\.host\.0 from the host: packet {} was not for the first time"
        self.planted(lambda held: held * 2, True, found)

    def test_overtaken(self):
        """A packet that is overtaken by another is found."""
        found = r"udp\.0 from the guest: packet {} came after packet {}"
        self.planted(lambda held: held[::-1], False, found, count=2)

    def planted(self, change, to_guest: bool, found: str, count: int = 1, most: int = 1):
        """`found`: what the checker says of the `count` packets that are struck, whose numbers it has as {}.

        `most`: how many things it may say.
        """
        guest = self.boot(net=Tap(vhost=False))
        carrier = Carrier(self.network, PORT)
        packets = UdpPackets(guest, self.network, [SMALL], detour=carrier.detour)
        packets.wait_progress()
        self.transfer(guest).assert_completed()
        packets.wait_progress()
        carrier.strike(change, to_guest, count)
        packets.wait_progress()
        packets.stop()
        carrier.close()
        with self.assertRaisesRegex(AssertionError, found.format(*carrier.struck)) as raised:
            packets.check()
        said = str(raised.exception).split(";")
        self.assertLessEqual(len(said), most, f"more was found than was planted: {said}")


def _change(held):
    (packet,) = held
    return [packet[:40] + bytes([packet[40] ^ 1]) + packet[41:]]
