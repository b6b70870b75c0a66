# SPDX-License-Identifier: GPL-2.0-or-later
"""Long streams both ways on many connections: every byte arrives once, in order.

Word N of each stream is N modulo 2^20 (assets/guest/byte-stream.c, which judges what comes to it): more than
a connection can have under way, so nothing repeats that could be taken for something else. Each chunk of
64 KiB that came to the guest is in its history, by a weighted sum of all that came so far, and is compared
with what was sent. When a connection may end is another matter: see tcp.py and vsock.py.
"""

import contextlib
import errno
import functools
import itertools
import os
import socket
import threading
from array import array
from collections.abc import Callable

from cprtest.guest.guest import Guest
from cprtest.limits import stretched, wait_until
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.weighted import weighted
from cprtest.workloads.workload import Workload

CHUNK = 65536
_WORDS = CHUNK // 8
_PERIOD = (1 << 20) // _WORDS
"""Chunks after which a stream begins anew."""

GREETING = 8
"""Bytes that we send first on a connection: its index."""

Connect = Callable[[int], socket.socket]
"""Connects to a port of the guest; raises OSError when it is refused."""


@functools.cache
def _content(place: int) -> bytes:
    return array("Q", range(place * _WORDS, (place + 1) * _WORDS)).tobytes()


@functools.cache
def _sums() -> list[int]:
    """The weighted sums of so many chunks from the first on, together: one more than a period has."""
    return [0, *itertools.accumulate(weighted(_content(place)) for place in range(_PERIOD))]


def _sum(chunks: int) -> int:
    """The weighted sums of the first `chunks` chunks of a stream, together, modulo 2^64."""
    periods, rest = divmod(chunks, _PERIOD)
    return (periods * _sums()[-1] + _sums()[rest]) % (1 << 64)


def chunk(number: int) -> bytes:
    """Chunk `number` of either stream."""
    return _content(number % _PERIOD)


class Streams(Workload):
    """`connections` streams each way to `port` of the guest. `pause_us`: microseconds of rest a chunk."""

    program = "byte-stream"
    port: int
    refused: type[OSError] = ConnectionRefusedError
    """What a port is said to be at which nobody listens yet."""

    def __init__(self, guest: Guest, connect: Connect, connections: int = 4, pause_us: int = 20_000) -> None:
        super().__init__(guest, connections)
        self._connect = connect
        self._pause = pause_us / 1e6
        self.connections: list[Connection] = []
        self.start(f"byte-stream {self.name} {self.port} {pause_us}")
        self._open_all(10)

    def _open_all(self, seconds: float) -> None:
        """Wait until the guest accepts, and let streams run over as many connections as there are to be."""
        first = wait_until("the guest to accept streams", self._attempt, seconds, interval=0.02)
        assert first is not None
        for made in (first, *(self._connect(self.port) for _ in range(self.reporters - 1))):
            self.connections.append(Connection(f"{self.name}.{len(self.connections)}", made, self._pause))

    def _attempt(self) -> socket.socket | None:
        try:
            return self._connect(self.port)
        except self.refused:
            return None

    def open(self) -> "list[Connection]":
        """The connections that are expected to work."""
        return self.connections

    def _names(self) -> list[str]:
        return [str(end) for end in self.open()]

    def wait_progress(self, count: int = 2, what: str | None = "chunk", seconds: float = 20) -> None:
        """Wait until `count` chunks more have arrived on every open connection, at both ends."""
        goal = {end: end.received + count * CHUNK for end in self.open()}

        def short() -> list[str]:
            return [
                f"{end} to the host" for end, size in goal.items() if end.received < size and not end.error
            ]

        self._wait(f"{count} chunks from the guest", short, seconds)
        super().wait_progress(count, what, seconds)

    def wait_broken(self) -> None:
        """Wait until the host's end of a connection has found something wrong."""
        wait_until("a connection to break", lambda: any(end.error for end in self.connections), 20)

    def wait_closed(self) -> None:
        """Wait until the guest's end of a connection has come to an end, in whichever way."""
        over = ("broken", "end")
        wait_until("a connection to close", lambda: any(op.what in over for op in self.operations()), 20)

    def stop(self) -> None:
        """End every stream at a chunk's end, and let what is under way arrive."""
        if self._ended:
            return
        self._ended = True
        for end in self.open():
            end.stop()
        ended = dict.fromkeys(self._names(), 1)
        self._wait("the end", lambda: self._short_of(ended, "end"))
        for end in self.open():
            end.join()
        self._last_words()
        # Not by its name: another workload may have a program of that name.
        self.guest.run(f"kill $(cat {self.pid_file})")

    def _last_words(self) -> None:
        """What else is to be tried before the guest's program is ended."""

    def judge(self) -> list[Problem]:
        """Bytes that were not what they should be, connections that broke, and ends that disagree."""
        found = [Problem(f"{op.place}: {_said(op)}") for op in self.operations("bad")]
        found += [Problem(f"{op.place}: {_said(op)}") for op in self.operations("broken") if self._early(op)]
        for end in self.connections:
            closed = [op for op in self.operations("end") if op.who == str(end)]
            if not end.stopping and any(self._early(op) for op in closed):
                found.append(Problem(f"{end} was closed in the guest, and nobody had asked for it"))
            found += self._faults(end)
            found += self._disagreements(end)
        return found

    def _early(self, _end: Operation) -> bool:
        """Whether a connection whose end in the guest broke or closed there should have lived."""
        return True

    def _faults(self, end: "Connection") -> list[Problem]:
        """What the host's end of a connection found wrong."""
        return [Problem(f"{end} at the host: {error}") for error in [end.error] if error]

    def _disagreements(self, end: "Connection") -> list[Problem]:
        """Chunks whose hash differs at the two ends, and streams of which less arrived than was sent."""
        found = []
        reports = [op for op in self.operations() if op.who == str(end)]
        for op in (op for op in reports if op.what == "chunk"):
            if int(op.result[3]) != _sum(int(op.result[1]) // CHUNK):
                found.append(
                    Problem(f"{op.place}: up to byte {op.result[1]} the sum is not that of what was sent")
                )
        for op in (op for op in reports if op.what == "end" and end.stopping):
            received, sent = int(op.result[1]), int(op.result[2])
            if (received, sent) != (end.sent, end.received):
                ways = (
                    f"{received} of {end.sent} bytes came to the guest, {end.received} of {sent} to the host"
                )
                found.append(Problem(f"{op.place}: at the end {ways}"))
        return found


def _said(operation: Operation) -> str:
    if operation.what == "bad":
        offset, wanted, seen = (int(word) for word in operation.result[1:])
        return f"byte {offset} of the stream to the guest is wrong: word {seen} instead of {wanted}"
    received, _sent, *why = operation.result[1:]
    return f"the connection broke after {received} bytes: {' '.join(why)}"


class Connection:
    """Our end of the connection `name`, NAME.INDEX; two threads drive it.

    error: what was found wrong, or empty. broken: the error is the connection's end, not a byte.
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
                self._sock.sendall(chunk(number))
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
            while got := self._sock.recv_into(view[held:]):
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
