# SPDX-License-Identifier: GPL-2.0-or-later
"""Our end of a connection with a stream each way, and what is in the streams.

Word N of each is N modulo 2^20, as assets/guest/byte-stream.c has it: more than a connection can have under
way, so nothing repeats that could be taken for something else.
"""

import contextlib
import errno
import functools
import itertools
import os
import socket
import struct
import threading
import time
from array import array
from collections.abc import Callable

from cprtest.limits import stretched
from cprtest.workloads.stalls import Silence, longest
from cprtest.workloads.weighted import weighted

CHUNK = 65536
_WORDS = CHUNK // 8
_PERIOD = (1 << 20) // _WORDS
"""Chunks after which a stream begins anew."""

GREETING = 8
"""Bytes that we send first on a connection: its index."""


@functools.cache
def _content(place: int) -> bytes:
    return array("Q", range(place * _WORDS, (place + 1) * _WORDS)).tobytes()


@functools.cache
def _sums() -> list[int]:
    """The weighted sums of so many chunks from the first on, together: one more than a period has."""
    return [0, *itertools.accumulate(weighted(_content(place)) for place in range(_PERIOD))]


def total(chunks: int) -> int:
    """The weighted sums of the first `chunks` chunks of a stream, together, modulo 2^64."""
    periods, rest = divmod(chunks, _PERIOD)
    return (periods * _sums()[-1] + _sums()[rest]) % (1 << 64)


def chunk(number: int) -> bytes:
    """Chunk `number` of either stream."""
    return _content(number % _PERIOD)


def _tcp_state(sock: socket.socket) -> str:
    """What the kernel says of a TCP connection (struct tcp_info, include/uapi/linux/tcp.h); "" of another."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 184)
    except OSError:
        return ""
    (timeout,) = struct.unpack_from("I", info, 8)
    round_trip, variation = struct.unpack_from("II", info, 68)
    (again,) = struct.unpack_from("I", info, 100)
    (no_room,) = struct.unpack_from("Q", info, 176)
    return (
        f"retransmission timeout {timeout / 1e6:.2f} s, round trip {round_trip / 1e6:.2f} s "
        f"+- {variation / 1e6:.2f}, {again} segments sent again, {no_room / 1e6:.1f} s without room there"
    )


def _long(start: int, about: Callable[[], str]) -> list[Silence]:
    """The wait from `start` (time.monotonic_ns) until now, if only a pause of the guest would explain it."""
    length = (end := time.monotonic_ns()) - start
    return [Silence(start, end, length, about())] if length > longest() * 1e9 else []


class Connection:
    """Our end of the connection `name`, NAME.INDEX; two threads drive it.

    error: what was found wrong, or empty. broken: the error is the connection's end, not a byte.
    silences: when it waited for bytes for so long that only a pause of the guest would explain it.
    jams: when no more could be sent for so long, and what the kernel says of the connection after it.
    """

    def __init__(self, name: str, sock: socket.socket, pause: float) -> None:
        self._name = name
        self._sock = sock
        self._sock.settimeout(stretched(60))
        self._pause = pause
        self._stopping = threading.Event()
        self.error = ""
        self.broken = False
        self.sent = 0
        self.received = 0
        self.silences: list[Silence] = []
        self.jams: list[Silence] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def __str__(self) -> str:
        return self._name

    def _send(self) -> None:
        number = 0
        try:
            self._sock.sendall(int(self._name.rpartition(".")[2]).to_bytes(GREETING, "little"))
            while not self._stopping.is_set() and not self.error:
                start = time.monotonic_ns()
                self._sock.sendall(chunk(number))
                self.jams += _long(start, lambda: _tcp_state(self._sock))
                self.sent += CHUNK
                number += 1
                if self._pause:
                    self._stopping.wait(self._pause)
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(f"sending after byte {self.sent}: {error}", broken=True)

    def _receive(self) -> None:
        room = bytearray(CHUNK)
        view = memoryview(room)
        number = held = 0
        try:
            while got := self._listen(view[held:]):
                held += got
                if held == CHUNK:
                    if not self._right(room, number):
                        return
                    number, held = number + 1, 0
                self.received = number * CHUNK + held
            if not self.stopping:
                self._fail(f"closed by the guest after byte {self.received}", broken=True)
        except OSError as error:
            self._fail(f"receiving after byte {self.received}: {error}", broken=True)

    def _listen(self, room: memoryview) -> int:
        """Receive some bytes. Only waiting for them is silence: we may be slow to come back for more."""
        start = time.monotonic_ns()
        got = self._sock.recv_into(room)
        if got:
            self.silences += _long(start, lambda: f"after byte {self.received} of the stream from the guest")
        return got

    def _right(self, seen: bytearray, number: int) -> bool:
        wanted = chunk(number)
        if seen == wanted:
            return True
        at = next(n for n in range(CHUNK) if seen[n] != wanted[n]) & -8
        words = (int.from_bytes(text[at : at + 8], "little") for text in (seen, wanted))
        self._fail(
            "byte {} of the stream from the guest is wrong: word {} instead of {}".format(
                number * CHUNK + at, *words
            )
        )
        return False

    def _fail(self, what: str, *, broken: bool = False) -> None:
        if not self.error:
            self.error, self.broken = what, broken

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Send no more; what is under way arrives."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end of both streams."""
        for thread in self._threads:
            thread.join(stretched(10))
        if any(thread.is_alive() for thread in self._threads):
            self._fail(os.strerror(errno.ETIMEDOUT))
        with contextlib.suppress(OSError):
            self._sock.close()
