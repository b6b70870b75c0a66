# SPDX-License-Identifier: GPL-2.0-or-later
"""Long streams both ways on many connections: every byte arrives once, in order.

The guest's end is assets/guest/byte-stream.c, which judges what comes to it; ours is connection.py. Each
chunk that came to the guest is in its history, by a weighted sum of all that came so far, and is compared
with what was sent. When a connection may end is another matter: see tcp.py and vsock.py.
"""

import socket
from collections.abc import Callable
from dataclasses import replace

from cprtest.guest.guest import Guest
from cprtest.limits import wait_until
from cprtest.workloads import stalls
from cprtest.workloads.connection import CHUNK, Connection, total
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.workload import Workload

Connect = Callable[[int], socket.socket]
"""Connects to a port of the guest; raises OSError when it is refused."""


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

    def open(self) -> list[Connection]:
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
            reports = [op for op in self.operations() if op.who == str(end)]
            closed = [op for op in reports if op.what == "end"]
            if not end.stopping and any(self._early(op) for op in closed):
                found.append(Problem(f"{end} was closed in the guest, and nobody had asked for it"))
            found += self._faults(end)
            found += self._stalls(end, reports)
            found += self._disagreements(end, reports)
        return found

    def _early(self, _end: Operation) -> bool:
        """Whether a connection whose end in the guest broke or closed there should have lived."""
        return True

    def _faults(self, end: Connection) -> list[Problem]:
        """What the host's end of a connection found wrong."""
        return [Problem(f"{end} at the host: {error}") for error in [end.error] if error]

    def _stalls(self, end: Connection, reports: list[Operation]) -> list[Problem]:
        """Silences, at either end, for which the guest's pauses are no reason."""
        silences = [(f"{end} at the host", silence) for silence in end.silences]
        silences += [(f"{end} in the guest", silence) for silence in stalls.in_guest(reports)]
        pauses = self.history.pauses
        found = (stalls.judge(who, silence, self._pause, pauses, self.stalls) for who, silence in silences)
        told = "".join(
            f" (no sending for {jam.length / 1e9:.1f} s from {jam.start / 1e9:.3f} s: {jam.about})"
            for jam in end.jams
            if jam.about
        )
        return [replace(problem, text=problem.text + told) for problem in found if problem]

    def _disagreements(self, end: Connection, reports: list[Operation]) -> list[Problem]:
        """Chunks whose hash differs at the two ends, and streams of which less arrived than was sent."""
        found = []
        for op in (op for op in reports if op.what == "chunk"):
            if int(op.result[3]) != total(int(op.result[1]) // CHUNK):
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
