# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate's supervisor (assets/host/gate.c), seen from Python: its process, its records, its questions.

The supervisor is a process of its own, not a thread of ours: it answers in microseconds whatever Python's
interpreter lock is held for, and costs the test nothing for calls that no rule is about. Records are in a
memory file that both have mapped.

Nothing that is gated can go on without it: when it dies, the copies of the listeners that we hold keep gated
calls parked (a listener closed would fail them with ENOSYS, and QEMU would quietly do without vhost), and all
gated programs are killed.
"""

import contextlib
import mmap
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cprtest.errors import CprError
from cprtest.limits import stretched
from cprtest.observe import gate_calls
from cprtest.provision import programs

# The layout of gate-log.h.
_FILTER_OFFSET, _RECORDS_OFFSET, _RECORDS, _RECORD_SIZE, _ASKS = 4096, 8192, 32768, 512, 64
_RECORD = struct.Struct("2Q8xQ2I4xI4i3I4x80s352s")  # in the order of Record, what is not kept left out
_MESSAGE, _ANSWER = struct.Struct("4I"), struct.Struct("Iii")
_HELLO, _GONE, _ASK = 1, 2, 3
_BY_ORDER = 1

CONTINUE, ANSWER = 0, 1


@dataclass(frozen=True)
class Record:
    """One gated call. t, answered: ns, monotonic; answered is 0 while the call is parked."""

    index: int
    t: int
    answered: int
    argument: int
    token: int
    tid: int
    command: int
    fd: int
    file: int
    how: int
    value: int
    err: int
    by_order: bool
    device: str
    memory: bytes


class Supervisor:
    """The process, started at once. `asked(index)` is called, in a thread of ours, for calls with rules.

    Raises CprError where it cannot be compiled.
    """

    def __init__(self, descriptors: bool, flags: bool, asked: Callable[[int], None]) -> None:
        program = programs.host_program("gate")
        self._program = str(program)
        self._asked = asked
        self.lost: str | None = None
        """Why nothing that was gated can be trusted any more."""
        self._closing = False
        self._held: dict[int, list[int]] = {}
        self._size = _RECORDS_OFFSET + _RECORDS * _RECORD_SIZE
        self._file = os.memfd_create("cpr-gate")
        os.ftruncate(self._file, self._size)
        code = gate_calls.filter_program(descriptors, flags)
        os.pwrite(self._file, struct.pack("Q", len(code) // 8) + code, _FILTER_OFFSET)
        self._memory = mmap.mmap(self._file, self._size)
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._inbox, self._outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (control.fileno(), self._inbox.fileno(), self._file)
        with control:
            argv = [self._program, "supervise", *map(str, fds)]
            self.process = subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._listen, name="gate", daemon=True)
        self._thread.start()

    def prefix(self, token: int) -> tuple[list[str], list[int]]:
        """Words and descriptors that put a program behind the gate; `token` comes back in its records."""
        fds = [self._outbox.fileno(), self._file]
        return [self._program, "launch", *map(str, fds), str(token)], fds

    def ask(self, commands: set[int]) -> None:
        """From now on calls with these commands wait for `answer`."""
        if len(commands) > _ASKS:
            raise CprError(f"rules about {len(commands)} calls at once; the gate can do {_ASKS}")
        struct.pack_into(f"{len(commands)}I", self._memory, 12, *commands)
        struct.pack_into("I", self._memory, 8, len(commands))

    def answer(self, index: int, how: int, value: int = 0) -> None:
        """Let call `index` go on: CONTINUE, or ANSWER with `value`, a negative errno or 0."""
        with contextlib.suppress(OSError):  # the supervisor is dead, and so is the program
            self._control.send(_ANSWER.pack(index, how, value))

    @property
    def count(self) -> int:
        """How many calls have been recorded since the start."""
        return int(struct.unpack_from("Q", self._memory, 0)[0])

    def record(self, index: int) -> Record:
        """Record `index`. Raises CprError if it has been overwritten since."""
        at = _RECORDS_OFFSET + index % _RECORDS * _RECORD_SIZE
        *words, size, flags, device, memory = _RECORD.unpack_from(self._memory, at)
        if self.count - index > _RECORDS:
            raise CprError(f"the gate saw {self.count} calls, and keeps {_RECORDS}: evidence was lost")
        name = device.partition(b"\0")[0].decode(errors="replace")
        return Record(*[index, *words, bool(flags & _BY_ORDER), name, memory[:size]])

    def close(self) -> None:
        """End it, and with it all gated programs that still live. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        for sock in (self._control, self._inbox):
            sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(stretched(10))
        try:
            self.process.wait(stretched(10))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._release_all()
        for sock in (self._control, self._inbox, self._outbox):
            sock.close()
        os.close(self._file)

    def _listen(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._control, _MESSAGE.size, 2, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                data, fds = b"", []
            if not data:
                break
            kind, token, _, index = _MESSAGE.unpack(data)
            if kind == _HELLO:
                self._held[token] = fds
            elif kind == _GONE:
                for fd in self._held.pop(token, []):
                    os.close(fd)
            elif kind == _ASK:
                self._asked(index)
        if not self._closing:
            self._end_all()

    def _end_all(self) -> None:
        """The supervisor is gone: kill what it supervised, also what it had not heard of yet."""
        status = self.process.wait()
        ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        self.lost = f"the syscall gate's supervisor ended ({ended}) while QEMU ran; QEMU was killed"
        for _, pidfd in self._held.values():
            _kill(pidfd)
        # What is started from here on waits for a supervisor, and would wait for ever.
        while fds := socket.recv_fds(self._inbox, _MESSAGE.size, 2, socket.MSG_CMSG_CLOEXEC)[1]:
            self._held[-fds[0]] = fds
            _kill(fds[1])

    def _release_all(self) -> None:
        for fds in self._held.values():
            for fd in fds:
                os.close(fd)
        self._held.clear()


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
