# SPDX-License-Identifier: GPL-2.0-or-later
"""The relay passes on, holds, cuts and changes exactly where it is told to."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cprtest.faults.relay import Relay, unix_connection, unix_listener


@dataclass
class Line:
    """A relay with its two ends."""

    relay: Relay
    source: socket.socket
    target: socket.socket


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    behind = unix_listener(str(tmp_path / "target"))
    relay = Relay("test", unix_listener(str(tmp_path / "relay")), unix_connection(str(tmp_path / "target")))
    relay.start()
    source = unix_connection(str(tmp_path / "relay"))()
    target = behind.accept()[0]
    target.settimeout(10)
    source.settimeout(10)
    yield Line(relay, source, target)
    relay.close()
    for end in (source, target, behind):
        end.close()


def test_both_ways_and_the_end(line: Line) -> None:
    line.source.sendall(b"there")
    assert line.target.recv(100) == b"there"
    line.target.sendall(b"back")
    assert line.source.recv(100) == b"back"
    line.target.close()
    assert line.source.recv(100) == b""


def test_cut_after_exactly_so_many_bytes(line: Line) -> None:
    line.relay.forward.cut_at = 3
    line.source.sendall(b"abcdef")
    line.relay.forward.wait_reached()
    assert line.target.recv(100) == b"abc"
    assert line.target.recv(100) == b""


def test_hold_before_a_byte_and_release(line: Line) -> None:
    way = line.relay.forward
    way.hold_at = 2
    line.source.sendall(b"abcd")
    way.wait_reached()
    assert line.target.recv(100) == b"ab"
    way.release()
    assert line.target.recv(100) == b"cd"


def test_the_end_is_held_back(line: Line) -> None:
    line.relay.back.hold_end = True
    line.target.close()
    line.relay.back.wait_reached()
    line.source.setblocking(False)
    with pytest.raises(BlockingIOError):
        line.source.recv(1)


def test_descriptors_pass_and_can_be_changed(line: Line) -> None:
    def without(_: int, data: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        return data.upper(), fds[:-1]

    line.relay.forward.edit = without
    reading, writing = os.pipe()
    socket.send_fds(line.source, [b"x"], [reading, writing])
    data, fds, _, _ = socket.recv_fds(line.target, 10, 4)
    assert data == b"X" and len(fds) == 1
    for fd in (reading, writing, *fds):
        os.close(fd)
