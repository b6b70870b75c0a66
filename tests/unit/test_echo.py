# SPDX-License-Identifier: GPL-2.0-or-later
"""The echo stream finds every byte that is lost, changed or doubled."""

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from cprtest.workloads.echo import EchoStream, block


def peer(sock: socket.socket, treat: Callable[[bytes, int], bytes]) -> None:
    """Echo through `treat`, which gets the data and its position."""
    position = 0
    with contextlib.suppress(OSError):
        while data := sock.recv(4096):
            sock.sendall(treat(data, position))
            position += len(data)
    sock.close()


def stream(treat: Callable[[bytes, int], bytes]) -> EchoStream:
    ours, theirs = socket.socketpair()
    threading.Thread(target=peer, args=(theirs, treat), daemon=True).start()
    return EchoStream(ours)


def test_good_echo_passes() -> None:
    good = stream(lambda data, _: data)
    good.wait_progress(300_000)
    good.stop()
    assert good.history[-1].count == good.received >= 300_000


@pytest.mark.parametrize(
    "treat",
    [
        lambda data, at: bytes([data[0] ^ 1]) + data[1:] if at > 50_000 else data,
        lambda data, at: data[1:] if at > 50_000 else data,
        lambda data, at: data[:1] + data if at > 50_000 else data,
    ],
    ids=["changed", "lost", "doubled"],
)
def test_bad_echo_is_found(treat: Callable[[bytes, int], bytes]) -> None:
    bad = stream(treat)
    with pytest.raises(AssertionError, match="came back as"):
        bad.wait_progress(200_000)


def test_closed_stream_is_found() -> None:
    def close(data: bytes, at: int) -> bytes:
        if at > 10_000:
            raise OSError
        return data

    with pytest.raises(AssertionError, match="echo stream"):
        stream(close).wait_progress(200_000)


def test_blocks_differ() -> None:
    assert len({block(n) for n in range(100)}) == 100
