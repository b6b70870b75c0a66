# SPDX-License-Identifier: GPL-2.0-or-later
"""A byte stream to the guest and back: every byte arrives once, in order, across any number of transfers.

The guest echoes. The host sends a stream whose content follows from the position alone, and compares
what comes back byte by byte, so a lost, doubled, reordered or foreign byte is found where it happens.
"""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.limits import stretched, wait_until
from cprtest.machine.devices import HOST_ADDRESS, Nic
from cprtest.workloads.vsock import connection

_BLOCK = 1024
_WINDOW = 64 * 1024
_INTERVAL = 0.01
"""Seconds between blocks: no hand-over is too short to be noticed, and a guest with one emulated CPU for
everything still gets other work done. Load is what benchmarks are for."""
_PORT = 7007


def block(number: int) -> bytes:
    """Block `number` of the stream, 1024 bytes."""
    return hashlib.shake_128(number.to_bytes(8, "big")).digest(_BLOCK)


@dataclass(frozen=True)
class Received:
    """One entry of the history: `count` bytes had come back by `t` (ns, monotonic)."""

    t: int
    count: int


class EchoStream:
    """The stream over a connected socket, driven by two threads until `stop`.

    vain: why the guest will never echo again, or None.
    """

    def __init__(self, sock: socket.socket, vain: Callable[[], str | None] = lambda: None) -> None:
        self._sock = sock
        self._vain = vain
        self._sock.settimeout(stretched(30))
        self._sent = 0
        self.received = 0
        self.history: list[Received] = []
        self.error: str | None = None
        self._stopping = threading.Event()
        self._progress = threading.Condition()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        number = 0
        try:
            while not self._stopping.is_set():
                with self._progress:
                    self._progress.wait_for(
                        lambda: self._sent - self.received < _WINDOW or self._stopping.is_set(), 0.5
                    )
                    if self._sent - self.received >= _WINDOW:
                        continue
                self._sock.sendall(block(number))
                number += 1
                self._sent += _BLOCK
                self._stopping.wait(_INTERVAL)
        except OSError as error:
            self._fail(f"sending byte {self._sent}: {error}")

    def _receive(self) -> None:
        expected = b""
        number = 0
        try:
            while True:
                data = self._sock.recv(_WINDOW)
                if not data and self._complete():
                    return
                if not data:
                    self._fail(f"the guest closed the stream after {self.received} bytes")
                    return
                while len(expected) < len(data):
                    expected += block(number)
                    number += 1
                if data != expected[: len(data)]:
                    at = next(n for n, (a, b) in enumerate(zip(data, expected, strict=False)) if a != b)
                    self._fail(f"byte {self.received + at} came back as {data[at]:#x}, was {expected[at]:#x}")
                    return
                expected = expected[len(data) :]
                with self._progress:
                    self.received += len(data)
                    self.history.append(Received(time.monotonic_ns(), self.received))
                    self._progress.notify_all()
        except OSError as error:
            if not self._complete():
                self._fail(f"waiting for byte {self.received}: {error}")

    def _complete(self) -> bool:
        """Whether the stream was ended by us, and all of it had come back."""
        return self._stopping.is_set() and self.received == self._sent

    def _fail(self, what: str) -> None:
        with self._progress:
            if self.error is None:
                self.error = what
            self._stopping.set()
            self._progress.notify_all()

    def wait_progress(self, count: int = 16 * _BLOCK) -> None:
        """Wait until `count` more bytes have come back. Raises AssertionError when the stream is broken."""
        goal = self.received + count
        wait_until(
            f"byte {goal} of the echo stream",
            lambda: self.received >= goal or self.error is not None,
            20,
            lambda: f"{self.received} of {self._sent} bytes came back",
            vain=self._vain,
        )
        self.check()

    def check(self) -> None:
        """Raises AssertionError if a byte was lost, changed or came twice, or the connection broke."""
        if self.error is not None:
            raise AssertionError(f"echo stream: {self.error}")

    def stop(self) -> None:
        """Let what is under way come back, end the stream and judge it."""
        self._stopping.set()
        sender, receiver = self._threads
        sender.join(stretched(10))
        with self._progress:
            self._progress.wait_for(lambda: self._complete() or self.error is not None, stretched(10))
        missing = self._sent - self.received
        with contextlib.suppress(OSError):  # it may be broken, which check() tells
            self._sock.shutdown(socket.SHUT_RDWR)
        receiver.join(stretched(10))
        self._sock.close()
        self.check()
        if missing:
            raise AssertionError(f"echo stream: {missing} of {self._sent} bytes never came back")


def tcp(guest: Guest, network: Network, index: int = 0) -> EchoStream:
    """An echo stream over TCP through NIC `index` of the guest."""
    _serve(guest)
    return _through(guest, network, index)


def _serve(guest: Guest) -> None:
    guest.run(f"busybox nc -ll -p {_PORT} -e /bin/cat >/dev/null 2>&1 </dev/null &")


def _through(guest: Guest, network: Network, index: int) -> EchoStream:
    nic = next(d for d in guest.spec.devices if isinstance(d, Nic) and d.index == index)
    address, port = nic.reached(_PORT)
    return EchoStream(
        _connected(lambda: network.connect(address, port), f"{address} port {port}"), guest.dead
    )


class Connections:
    """A connection of its own for each round, through a NIC whose connections end with their QEMU."""

    def __init__(self, guest: Guest, network: Network, index: int = 0) -> None:
        self._guest, self._network, self._index = guest, network, index
        _serve(guest)
        # passt has to hear of the guest to know where it is; the target's is told by the source's.
        guest.run(f"ping -c 1 -w 2 {HOST_ADDRESS.format(index)} >/dev/null || true")

    def wait_progress(self) -> None:
        """A new connection carries its bytes there and back. Raises AssertionError or TimeLimit."""
        stream = _through(self._guest, self._network, self._index)
        stream.wait_progress()
        stream.stop()

    def stop(self) -> None:
        """Nothing is open between rounds."""


def vsock(guest: Guest, cid: int) -> EchoStream:
    """An echo stream over vhost-vsock."""
    guest.run(f"socat VSOCK-LISTEN:{_PORT} EXEC:/bin/cat >/dev/null 2>&1 </dev/null &")

    return EchoStream(_connected(lambda: connection(cid, _PORT), f"CID {cid} port {_PORT}"), guest.dead)


def _connected(connect: Callable[[], socket.socket], where: str) -> socket.socket:
    """The server in the guest was started a moment ago: ask until it listens."""
    refused = ["no attempt was made"]  # texts: an exception would keep the socket of its attempt open

    def attempt() -> socket.socket | None:
        try:
            return connect()
        except OSError as error:
            refused[:] = [str(error)]
            return None

    made = wait_until(f"the guest to accept on {where}", attempt, 5, lambda: refused[0], interval=0.02)
    assert made is not None
    return made
