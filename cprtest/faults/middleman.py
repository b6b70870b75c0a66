# SPDX-License-Identifier: GPL-2.0-or-later
"""A man in the middle of a connection who changes what passes, to prove that a checker finds it."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cprtest.limits import wait_until
from cprtest.workloads.connection import CHUNK, GREETING, chunk

Change = Callable[[bytes], bytes]


def a_byte_changed(data: bytes) -> bytes:
    """The piece with its tenth byte changed."""
    place = min(9, len(data) - 1)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def held(seconds: float) -> Change:
    """Lets the piece, and all that follows it, go on after so many seconds."""

    def change(data: bytes) -> bytes:
        time.sleep(seconds)
        return data

    return change


@dataclass(frozen=True)
class Strike:
    """A piece of a stream that was struck. start: its first byte's place; length: before the change."""

    start: int
    length: int
    became: bytes

    @property
    def wrong(self) -> int:
        """The first byte of the first word that is wrong now."""
        seen = self.became + _content(self.start + self.length, CHUNK)
        wanted = _content(self.start, len(seen))
        return (self.start + next(n for n in range(len(seen)) if seen[n] != wanted[n])) & -8


def _content(start: int, size: int) -> bytes:
    """Either stream from byte `start` on, as it ought to be."""
    number, skip = divmod(start, CHUNK)
    chunks = (chunk(n) for n in range(number, (start + size) // CHUNK + 1))
    return b"".join(chunks)[skip : skip + size]


class Middleman:
    """Carries bytes between `connection` and the socket `ours`, and changes one piece when told to.

    to_guest: the direction in which it strikes.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._far = connection
        self.ours, self._near = socket.socketpair()
        self._changes: dict[bool, Change] = {}
        self._strikes: dict[bool, Strike] = {}
        # Where the piece that comes next begins in its stream: ours to the guest is preceded by a greeting.
        self._passed = {True: -GREETING, False: 0}
        self._quiet = False
        for to_guest in (True, False):
            threading.Thread(target=self._carry, args=(to_guest,), daemon=True).start()

    def strike(self, change: Change, to_guest: bool = True) -> None:
        """Let `change` have the next piece that passes in that direction."""
        self._changes[to_guest] = change

    def struck(self, to_guest: bool = True) -> Strike:
        """What `strike` did: waits until it has."""
        wait_until("a piece to be changed", lambda: to_guest in self._strikes, 20)
        return self._strikes[to_guest]

    @property
    def sent(self) -> int:
        """How many bytes of its stream have left for the guest, at most."""
        return self._passed[True]

    def keep_quiet(self) -> None:
        """When the connection ends, do not tell our end."""
        self._quiet = True

    def reset(self) -> None:
        """Break the connection (RST) as a host does that has forgotten it."""
        if self._far.family == socket.AF_VSOCK:  # has no such option, and needs none
            self._far.shutdown(socket.SHUT_RDWR)
        else:
            self._far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Nothing is sent by this, but who waits for bytes of an idle connection lets go of it.
            self._far.shutdown(socket.SHUT_RD)
        self._far.close()
        with contextlib.suppress(OSError):  # its carrier has done so
            self._near.shutdown(socket.SHUT_RDWR)

    def _carry(self, to_guest: bool) -> None:
        source, sink = (self._near, self._far) if to_guest else (self._far, self._near)
        try:
            while data := source.recv(16384):
                start = self._passed[to_guest]
                self._passed[to_guest] += len(data)
                if change := self._changes.pop(to_guest, None):
                    became = change(data)
                    self._strikes[to_guest] = Strike(start, len(data), became)
                    data = became
                sink.sendall(data)
            if not self._quiet:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            if self._quiet:
                return
            source.close()
            sink.close()
