# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections of the guest live on, every byte once and in order."""

import re

from cprtest.faults.middleman import Middleman, a_byte_changed, held
from cprtest.guest import ssh
from cprtest.limits import stretched
from cprtest.needs import needs
from cprtest.provision import installed
from cprtest.test import CprTest, Tap
from cprtest.workloads import tcp
from cprtest.workloads.stalls import longest
from cprtest.workloads.tcp import TcpStreams


class OtherStreams(TcpStreams):
    name = "other"
    port = 7010


class Networked(CprTest):
    def connect(self, port: int):
        return tcp.to_guest(self.network)(port)


@needs("qemu:cpr-transfer", "tun", "netns")
class TcpConsistency(Networked):
    """
    :avocado: tags=full
    """

    def test_streams(self):
        """Streams both ways on four connections cross a hand-over, and a connection that was idle works."""
        self.streams_cross(Tap(vhost=False), 1)

    def test_twenty_transfers(self):
        """The same through twenty hand-overs (C-32)."""
        self.streams_cross(Tap(vhost=False), 20)

    @needs("kvm", "vhost-net")
    def test_streams_on_vhost(self):
        """The same through kernel vhost (C-05)."""
        self.streams_cross(Tap(vhost=True), 1)

    def test_many_connections(self):
        """Thirty-two connections cross a hand-over."""
        self.streams_cross(Tap(vhost=False), 1, connections=32, pause_us=500_000)

    def test_two_servers(self):
        """Connections to two programs of the guest cross a hand-over; the end of one is not the other's."""
        guest = self.boot(net=Tap(vhost=False))
        first, second = (kind(guest, self.connect, connections=1) for kind in (TcpStreams, OtherStreams))
        self.cross(guest, first, second)

    def test_ssh_session(self):
        """A session over SSH goes on after a hand-over."""
        guest = self.boot(net=Tap(vhost=False))
        key = installed.guest_image().key
        with ssh.connect(self.connect(22), key, stretched(20)) as session:
            session.run("echo before >/run/session", stretched(10))
            self.transfer(guest).assert_completed()
            self.assertEqual(session.run("cat /run/session", stretched(10)).output, "before")

    def streams_cross(self, net: Tap, transfers: int, **options):
        guest = self.boot(net=net)
        self.cross(guest, TcpStreams(guest, self.connect, **options), transfers=transfers)


@needs("qemu:cpr-transfer", "tun", "netns")
class LyingNetwork(Networked):
    """
    :avocado: tags=full
    """

    def test_byte_changed_on_the_way_in(self):
        """A byte that changed on its way to the guest is found by the guest, with its place."""
        self.planted(a_byte_changed, True)

    def test_byte_changed_on_the_way_out(self):
        """A byte that changed on its way from the guest is found by the host, with its place."""
        self.planted(a_byte_changed, False)

    def test_bytes_lost(self):
        """Bytes that never arrive are found where they ought to be."""
        self.planted(lambda data: data[8:], True)

    def test_bytes_doubled(self):
        """Bytes that arrive twice are found where they come again."""
        self.planted(lambda data: data + data, False)

    def test_reset(self):
        """A connection that is reset is found, with what the guest had of it by then."""
        streams, middle = self.carried()
        middle.reset()
        streams.wait_for("broken")
        (broken,) = streams.operations("broken")
        found = rf"tcp\.0's operation {broken.number}: the connection broke after (\d+) bytes"
        with self.assertRaisesRegex(AssertionError, found) as raised:
            streams.check()
        came = int(re.search(found, str(raised.exception))[1])
        arrived = [int(op.result[1]) for op in streams.operations("chunk")]
        self.assertTrue(arrived[-1] <= came <= middle.sent, f"{arrived[-1]}, {came}, {middle.sent}")

    def test_idle_connection_reset(self):
        """An idle connection that is reset is found when it is used at the end."""
        streams, idle = self.carried(1)
        idle.reset()
        streams.stop()
        found = r"tcp\.1 at the host: .* after byte 0\b.* \(it had been idle\)"
        self.assertRaisesRegex(AssertionError, found, streams.check)

    def test_stalls(self):
        """Bytes held for longer than a pause explains are found, at both ends, though all arrive."""
        streams, middle = self.carried()
        for to_guest in (True, False):
            middle.strike(held(1.2 * longest()), to_guest)
        held_back = {to_guest: middle.struck(to_guest).start for to_guest in (True, False)}
        streams.wait_progress()
        streams.stop()
        with self.assertRaises(AssertionError) as raised:
            streams.check()
        at_host, in_guest = str(raised.exception).split("; ")
        out = rf"tcp\.0 at the host: stalled for .* after byte {held_back[False]} of the stream from"
        into = r"tcp\.0 in the guest: stalled for .* between bytes (\d+) and (\d+) of the stream to"
        self.assertRegex(at_host, out)
        self.assertRegex(in_guest, into)
        before, after = map(int, re.search(into, in_guest).groups())
        self.assertTrue(before <= held_back[True] < after, in_guest)

    def carried(self, index: int = 0):
        """Streams on one connection, and the middleman of connection `index`; 1 is idle."""
        guest = self.boot(net=Tap(vhost=False))
        made = []

        def connect(port: int):
            made.append(Middleman(self.connect(port)))
            return made[-1].ours

        streams = TcpStreams(guest, connect, connections=1)
        streams.wait_progress()
        return streams, made[index]

    def planted(self, change, to_guest: bool):
        streams, middle = self.carried()
        middle.strike(change, to_guest)
        if to_guest:
            streams.wait_for("bad")
            found = r"tcp\.0's operation \d+: byte {} of the stream to the guest is wrong: word"
        else:
            streams.wait_broken()
            found = r"tcp\.0 at the host: byte {} of the stream from the guest is wrong: word"
        self.assertRaisesRegex(AssertionError, found.format(middle.struck(to_guest).wrong), streams.check)
