# SPDX-License-Identifier: GPL-2.0-or-later
"""A relay in a channel of a transfer: passes bytes and descriptors on, until told to do otherwise.

It listens where the source connects and connects to where the target listens. Each of its two ways can
be held before a byte or before its end, be cut there, and be changed on the way. A held way leaves what
comes next in the sender's socket, so that the relay holds no copy of a descriptor meanwhile.
"""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from cprtest.limits import TimeLimit, stretched

_CHUNK = 65536
_FDS = 253  # SCM_MAX_FD of the kernel, net/scm.h
_TICK = 0.02

Edit = Callable[[int, bytes, list[int]], tuple[bytes, list[int]]]
"""(position of the first byte, bytes, descriptors) to the bytes and descriptors that are sent instead."""


class Way:
    """One direction of a relayed connection.

    passed: bytes so far. hold_at: the byte (0 is the first) before which to hold, or None; hold_end: hold the
    end of file back. cut_at: cut both ways as soon as so many bytes have passed. pace: seconds to wait before
    each block of `block` bytes. record: keep what passes in `recorded`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.passed = 0
        self.hold_at: int | None = None
        self.hold_end = False
        self.cut_at: int | None = None
        self.edit: Edit | None = None
        self.pace = 0.0
        self.block = _CHUNK
        self.recorded = bytearray()
        self.reached = threading.Event()
        self.reached_at = 0
        self.trouble = ""
        """Why nothing comes, if that is known."""
        self._open = threading.Event()

    def wait_reached(self, seconds: float = 20) -> None:
        """Wait until the way is held: the next byte, or the end, has come. `seconds` is stretched."""
        if not self.reached.wait(stretched(seconds)):
            raise TimeLimit(
                f"waited {stretched(seconds):.0f} s for the {self.name} to reach byte {self.hold_at}"
                f"{' or its end' if self.hold_end else ''}; {self.passed} bytes went through{self.trouble}"
            )

    def release(self) -> None:
        """Hold no longer."""
        self.hold_at = None
        self.hold_end = False
        self._open.set()

    def hold_here(self) -> None:
        """Hold before the next byte, whichever it is."""
        self._open.clear()
        self.hold_at = self.passed

    def limit(self) -> int:
        """How many bytes may be read now."""
        stops = [stop - self.passed for stop in (self.hold_at, self.cut_at) if stop is not None]
        return max(0, min([self.block, *stops]))

    def held(self, stopping: threading.Event) -> None:
        """Stay here until released."""
        self.reached_at = self.reached_at or time.monotonic_ns()
        self.reached.set()
        while not self._open.wait(_TICK) and not stopping.is_set():
            pass


class Relay:
    """One relayed channel. forward: from the source to the target; back: the other way."""

    def __init__(self, name: str, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self.forward = Way(f"{name} channel, forward")
        self.back = Way(f"{name} channel, back")
        self.reset = False
        """Cut a TCP connection by RST, not by FIN."""
        self._listener = listener
        self._connect = connect
        self._stopping = threading.Event()
        self._ends: tuple[socket.socket, ...] = ()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to accept."""
        self._spawn(self._serve)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while not _readable(self._listener, _TICK):
            if self._stopping.is_set():
                return
        try:
            source = self._listener.accept()[0]
            self._ends = (source,)
            target = self._connect()
        except OSError as error:
            self.forward.trouble = self.back.trouble = f"; the relay could not connect: {error}"
            self.cut()
            return
        self._ends = (source, target)
        self._spawn(self._pass_on, self.back, target, source)
        self._pass_on(self.forward, source, target)

    def _pass_on(self, way: Way, sender: socket.socket, receiver: socket.socket) -> None:
        try:
            while self._step(way, sender, receiver):
                pass
        except OSError:
            self.cut()

    def _step(self, way: Way, sender: socket.socket, receiver: socket.socket) -> bool:
        """Pass on what has come. False at the end."""
        if way.cut_at is not None and way.passed >= way.cut_at:
            way.reached_at = time.monotonic_ns()
            way.reached.set()
            self.cut()
            return False
        if not _readable(sender, _TICK):
            return not self._stopping.is_set()
        if way.hold_at is not None and way.passed >= way.hold_at:
            way.held(self._stopping)
            return not self._stopping.is_set()
        if way.pace:
            self._stopping.wait(way.pace)
        data, fds, _, _ = socket.recv_fds(sender, way.limit(), _FDS)
        try:
            if not data:
                return self._end(way, receiver)
            sent, sent_fds = way.edit(way.passed, data, fds) if way.edit else (data, fds)
            _send(receiver, sent, sent_fds)
        finally:
            for fd in fds:
                os.close(fd)
        way.recorded += data
        way.passed += len(data)
        return True

    def _end(self, way: Way, receiver: socket.socket) -> bool:
        if way.hold_end:
            way.held(self._stopping)
        if way is self.back:
            # A target never closes half: let the source see it as it is.
            self.cut()
        else:
            receiver.shutdown(socket.SHUT_WR)
        return False

    def cut(self) -> None:
        """Close both ends; what was passed on before is still delivered (but by a reset)."""
        for end in self._ends:
            with contextlib.suppress(OSError):  # closed already
                if self.reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
                else:
                    end.shutdown(socket.SHUT_RDWR)
        for way in (self.forward, self.back):
            way.release()

    def close(self) -> None:
        """End everything. Safe to call twice."""
        self._stopping.set()
        self.cut()
        for thread in self._threads:
            thread.join(stretched(2))
        for end in self._ends:
            end.close()
        self._listener.close()


def _readable(sock: socket.socket, seconds: float) -> bool:
    try:
        return bool(select.select([sock], [], [], seconds)[0])
    except (OSError, ValueError):  # closed by another thread
        raise OSError("closed") from None


def _send(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    if not data:
        return
    sent = socket.send_fds(sock, [data], fds) if fds else 0
    sock.sendall(data[sent:])


def unix_listener(path: str, backlog: int = 4) -> socket.socket:
    """A listening UNIX socket at `path`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(backlog)
    return listener


def unix_connection(path: str) -> Callable[[], socket.socket]:
    """How to connect to the UNIX socket `path`."""

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(path)
        except OSError as error:
            made.close()
            raise OSError(error.errno, f"{path}: {error.strerror}") from error
        return made

    return connect
