# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP packets of the guest: none lost, not even in the pause, none twice, changed or overtaken (C-05)."""

from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads.udp import BURSTS, JUMBO, LARGE, MULTICAST, SMALL, VLAN, UdpPackets


@needs("qemu:cpr-transfer", "qemu:tap-cpr", "tun", "netns")
class UdpConsistency(CprTest):
    """
    :avocado: tags=full
    """

    def test_small_and_large(self):
        """Small and large packets both ways cross a hand-over."""
        self.packets_cross(Tap(vhost=False), SMALL, LARGE)

    def test_jumbo(self):
        """The same with jumbo packets."""
        self.packets_cross(Tap(vhost=False), SMALL, JUMBO)

    def test_offloads(self):
        """The same with bursts that leave as one packet for others to cut up."""
        self.packets_cross(Tap(vhost=False), SMALL, BURSTS)

    def test_no_offloads(self):
        """The same on a NIC without checksum and segmentation offload."""
        self.packets_cross(Tap(vhost=False, offloads=False), SMALL, LARGE, JUMBO)

    def test_multicast(self):
        """The same with packets to a multicast group: the NIC's receive filter crosses as well."""
        self.packets_cross(Tap(vhost=False), SMALL, MULTICAST)

    @needs("vlan")
    def test_vlan(self):
        """The same in a VLAN."""
        self.packets_cross(Tap(vhost=False), SMALL, VLAN)

    @needs("kvm", "vhost-net")
    def test_vhost(self):
        """All kinds through kernel vhost."""
        self.packets_cross(Tap(vhost=True), SMALL, JUMBO, BURSTS, MULTICAST)

    def test_twenty_transfers(self):
        """All kinds through twenty hand-overs (C-32)."""
        self.packets_cross(Tap(vhost=False), SMALL, JUMBO, BURSTS, MULTICAST, transfers=20)

    def packets_cross(self, net: Tap, *flows, transfers: int = 1):
        guest = self.boot(net=net)
        packets = UdpPackets(guest, self.network, flows)
        self.cross(guest, packets, transfers=transfers)
        # A tap that is handed over keeps what comes in the pause, if nobody takes it out.
        self.assertEqual(packets.excused, 0, f"packets lost in the pause {tag('setup', 'acquire')}")
