# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams over vhost-vsock: they end with a transfer, at both ends; what listens lives on."""

import threading
import time

from cprtest.faults.middleman import Middleman, a_byte_changed
from cprtest.faults.target import TargetKilled
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.workloads import tcp
from cprtest.workloads.history import PAUSE, note
from cprtest.workloads.tcp import TcpStreams
from cprtest.workloads.vsock import VsockStreams, to_guest

WORKS_AGAIN = "qemu:trace:vhost_cpr_release"


@needs("qemu:cpr-transfer", "kvm", "vhost-vsock", "root")
class VsockConsistency(CprTest):
    """
    :avocado: tags=full
    """

    @needs(WORKS_AGAIN)
    def test_streams(self):
        """Connections end at both ends, once in each of three hand-overs, and new ones are accepted."""
        guest = self.boot(vsock=True)
        self.cross(guest, VsockStreams(guest), transfers=3)

    @needs(WORKS_AGAIN, "tun", "netns")
    def test_beside_tcp(self):
        """Connections of both kinds in one guest: those of TCP live on when those of vsock end."""
        guest = self.boot(vsock=True, net=Tap(vhost=False))
        streams = TcpStreams(guest, tcp.to_guest(self.network))
        self.cross(guest, streams, VsockStreams(guest))

    def test_guest_that_stands_still(self):
        """A guest that stood still for three seconds accepts what was to be connected meanwhile."""
        guest = self.boot(vsock=True)
        streams = VsockStreams(guest)
        stopped = time.monotonic_ns()
        guest.machine.qmp.command("stop")
        goes_on = threading.Timer(3, guest.machine.qmp.command, ["cont"])
        goes_on.start()
        try:
            to_guest(guest)(streams.port).close()  # the kernel's own limit is two seconds
        finally:
            goes_on.join()
        note(guest.machine.history, PAUSE, (stopped, time.monotonic_ns()))
        streams.wait_progress()
        streams.check()

    @needs(WORKS_AGAIN)
    def test_rollback(self):
        """The same when the transfer fails: the source has its CID again."""
        guest = self.boot(vsock=True)
        streams = VsockStreams(guest)
        streams.wait_progress()
        self.transfer(guest, fault=TargetKilled()).assert_rolled_back()
        streams.wait_progress()
        self.cross(guest, streams)


@needs("qemu:cpr-transfer", "kvm", "vhost-vsock", "root")
class LyingVsock(CprTest):
    """
    :avocado: tags=full
    """

    def test_byte_changed_on_the_way_in(self):
        """A byte that changed on its way to the guest is found by the guest, with its place."""
        streams, middle = self.carried()
        middle.strike(a_byte_changed)
        streams.wait_for("bad")
        place = middle.struck().wrong
        found = rf"vsock\.0's operation \d+: byte {place} of the stream to the guest is wrong: word"
        self.assertRaisesRegex(AssertionError, found, streams.check)

    def test_bytes_doubled(self):
        """Bytes that arrive twice are found where they come again."""
        streams, middle = self.carried()
        middle.strike(lambda data: data + data, to_guest=False)
        streams.wait_broken()
        place = middle.struck(to_guest=False).wrong
        found = rf"vsock\.0 at the host: byte {place} of the stream from the guest is wrong: word"
        self.assertRaisesRegex(AssertionError, found, streams.check)

    def test_reset_without_a_transfer(self):
        """A connection that breaks when there was no transfer is found."""
        streams, middle = self.carried()
        middle.reset()
        # The guest hears of it as it receives, or as it sends: chance decides.
        streams.wait_closed()
        told = r"vsock\.0's operation \d+: the connection broke|vsock\.0 was closed in the guest"
        self.assertRaisesRegex(AssertionError, told, streams.check)

    @needs(WORKS_AGAIN)
    def test_end_that_is_not_told(self):
        """A connection whose end one side does not hear of is found."""
        streams, middle = self.carried()
        middle.keep_quiet()
        self.transfer(streams.guest).assert_completed()
        self.assertRaisesRegex(
            AssertionError, "silent are vsock.0 at the host", lambda: streams.wait_progress(seconds=0.5)
        )

    def carried(self):
        guest = self.boot(vsock=True)
        straight, made = to_guest(guest), []

        def connect(port: int):
            made.append(Middleman(straight(port)))
            return made[-1].ours

        streams = VsockStreams(guest, connect, connections=1)
        streams.wait_progress()
        return streams, made[0]
