# SPDX-License-Identifier: GPL-2.0-or-later
"""What the frames on a wire are taken for, and what is said about those that should not be there."""

import struct
from collections.abc import Iterator

import pytest

from cprtest import needs
from cprtest.host.network import Network
from cprtest.machine.devices import MAC, Tap
from cprtest.workloads.wire import Frame, Wire

GUEST, HOST = bytes.fromhex(MAC.format(0).replace(":", "")), b"\x02" + bytes(5)


def packet(protocol: int, number: int = 0, payload: bytes = bytes(20), source: bytes = GUEST) -> bytes:
    other = HOST if source == GUEST else GUEST
    head = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(payload), number, 0, 64, protocol, 0, bytes(8))
    return other + source + b"\x08\x00" + head + payload


def ping(kind: int, sequence: int, source: bytes) -> bytes:
    return packet(1, payload=struct.pack("!BBHHH", kind, 0, 0, 7, sequence), source=source)


def test_packets_of_connections_have_numbers_other_frames_have_none() -> None:
    assert Frame(0, True, packet(6, 5)).number == 5
    assert Frame(0, True, packet(1, 5)).number == 0
    assert Frame(0, True, HOST + GUEST + b"\x08\x06" + bytes(28)).number == 0
    assert Frame(0, True, HOST + GUEST).number == 0


def test_a_ping_and_its_answer_have_the_same_name() -> None:
    asked, answered = (Frame(0, False, ping(kind, 3, HOST)) for kind in (8, 0))
    assert asked.ping(8) == answered.ping(0) == b"\x00\x07\x00\x03"
    assert asked.ping(0) == answered.ping(8) == b""


class Cable:
    """A tap at whose other end there is us, and no guest."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.wire = Wire(network, Tap())

    def seen(self, *frames: bytes, from_guest: bool = True) -> None:
        now = self.wire._since(0)
        self.wire.frames += [Frame(n + len(now), from_guest, frame) for n, frame in enumerate(frames)]


@pytest.fixture
def cable() -> Iterator[Cable]:
    if needs.unmet(["tun", "netns"]):
        pytest.skip("no tap can be made here")
    with Network() as network:
        network.tap("tap0", address="10.99.0.1/24")
        made = Cable(network)
        yield made
        made.wire.close()


def test_a_packet_that_is_sent_twice_is_told(cable: Cable) -> None:
    cable.seen(packet(6, 1), packet(6, 2), ping(0, 1, GUEST), ping(0, 1, GUEST))
    cable.wire.assert_nothing_twice("release")
    cable.seen(packet(6, 2))
    with pytest.raises(
        AssertionError, match=r"1 packets of the guest were sent more than once.*phase release"
    ):
        cable.wire.assert_nothing_twice("release")


def test_no_packet_at_all_proves_nothing(cable: Cable) -> None:
    with pytest.raises(AssertionError, match="no packet of the guest was seen"):
        cable.wire.assert_nothing_twice("release")


def test_packets_that_were_lost_or_answered_twice_are_told(cable: Cable) -> None:
    cable.wire._unanswered = {b"\x00\x07\x00\x01", b"\x00\x07\x00\x02"}
    cable.seen(ping(0, 1, GUEST), ping(0, 2, GUEST))
    cable.wire.assert_answered("setup")
    cable.seen(ping(0, 2, GUEST))
    with pytest.raises(AssertionError, match=r"of 2 packets .* 0 were lost and 1 answered more than once"):
        cable.wire.assert_answered("setup")
