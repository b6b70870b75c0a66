# SPDX-License-Identifier: GPL-2.0-or-later
"""One lab from its start to its end, seen from the host: streams, signals, exit status.

The lab speaks through virtio ports that end in sockets here. On `control` it says which stage of its
start it has reached and how the command ended, and hears which signals the command shall get. When this
process dies, however it dies, the kernel kills virtme-run and QEMU; should that be missed in the first
instant of their lives, the lab switches itself off because nobody is at the other end of `control`.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cprtest.errors import CprError
from cprtest.lab import command

FIRST_BOOT_LIMIT = 75.0
BOOT_LIMIT = 180.0
"""Seconds until the command has to be running: 11 on two cores without KVM, 45 on busy ones.

Once in some thirty times QEMU's emulated APIC loses an interrupt and the lab hangs (docs/lab.md), hence
a first limit after which it is started again, and a second one for hosts that really are that slow.
"""

ALIVE_LIMIT = 120.0
"""Seconds without a sign of life, which the lab gives every ten, until it counts as dead."""

STOP_LIMIT = 100.0
"""Seconds the command gets to end after a signal; then the lab is switched off."""

Sink = Callable[[bytes], None]


class LabError(CprError):
    """The lab could not be started or died. The text names the console's log."""


class NotStarted(LabError):
    """The lab did not take the command: it hung or died before. Nothing of the command has happened."""


class Session:
    """A lab that is starting, running or over."""

    def __init__(self, parts: command.Parts, fds: list[int], log: Path, forward_stdin: bool) -> None:
        """fds: descriptors that `parts` names. log: where QEMU's own messages go."""
        names = ("control", "stdout", "stderr", *(("stdin",) if forward_stdin else ()))
        self._ours: dict[str, socket.socket] = {}
        theirs: dict[str, socket.socket] = {}
        for name in names:
            self._ours[name], theirs[name] = socket.socketpair()
        parts = replace(parts, ports={name: end.fileno() for name, end in theirs.items()})
        environment = {**os.environ, "TMPDIR": str(parts.run)}
        self._began = time.monotonic()
        with log.open("ab") as messages:
            self._process = subprocess.Popen(
                command.virtme_run(parts),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                env=environment,
                pass_fds=[*fds, *(end.fileno() for end in theirs.values())],
                start_new_session=True,  # Ctrl-C is for us; we pass it on
            )
        for end in theirs.values():
            end.close()
        self.stages: dict[str, float] = {}
        """Seconds from the start of the process to each stage of the lab's start; the last is "command"."""
        self._status: int | None = None
        self._stopping = False
        self._deadline = 0.0
        self._forward_stdin = forward_stdin

    def wait(self, out: Sink, err: Sink, boot_limit: float = BOOT_LIMIT) -> int:
        """Stream until the command has ended, and return its exit status (128 + N after signal N).

        boot_limit: seconds until the command has to be running. Raises LabError when the lab dies first or
        hangs, KeyboardInterrupt when it was stopped by force.
        """
        self._deadline = self._began + boot_limit
        with self._signals(), selectors.DefaultSelector() as waiter:
            waiter.register(self._ours["stdout"], selectors.EVENT_READ, out)
            waiter.register(self._ours["stderr"], selectors.EVENT_READ, err)
            waiter.register(self._ours["control"], selectors.EVENT_READ, self._heard)
            rest = b""
            while waiter.get_map():
                events = waiter.select(max(0.0, self._deadline - time.monotonic()))
                # output must not be seen before the stage that it comes from
                for key, _ in sorted(events, key=lambda event: event[0].data != self._heard):
                    data = _read(key.fileobj)
                    if not data:
                        waiter.unregister(key.fileobj)
                    elif key.data == self._heard:
                        *lines, rest = (rest + data).split(b"\n")
                        for line in lines:
                            self._heard(line)
                    else:
                        key.data(data)
                self._check_time()
        ended = self._process.wait()
        if self._status is None:
            how = f"by signal {-ended}" if ended < 0 else f"with status {ended}"
            died = f"The lab died {self._where()}, virtme-run ended {how}."
            raise LabError(died) if self._running else NotStarted(died)
        return self._status

    def close(self) -> None:
        """Switch the lab off, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for end in self._ours.values():
            end.close()

    def signal(self, number: int) -> None:
        """Pass a signal on to the command; the second one, or one before it runs, switches the lab off."""
        if self._stopping or not self._running:
            raise KeyboardInterrupt
        self._stopping = True
        self._deadline = time.monotonic() + STOP_LIMIT
        self._ours["control"].send(signal.Signals(number).name.removeprefix("SIG").encode() + b"\n")

    @property
    def _running(self) -> bool:
        return "command" in self.stages

    def _heard(self, line: bytes) -> None:
        word, _, rest = line.decode(errors="replace").partition(" ")
        if word == "stage":
            self.stages[rest] = round(time.monotonic() - self._began, 2)
            if rest == "command" and self._forward_stdin:
                threading.Thread(target=self._feed, daemon=True).start()
        elif word == "exit":
            self._status = int(rest)
            # All output has reached our sockets by now; powering off properly would take a second.
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._running and not self._stopping:
            self._deadline = time.monotonic() + ALIVE_LIMIT

    def _feed(self) -> None:
        port = self._ours["stdin"]
        with contextlib.suppress(OSError):
            while data := os.read(0, 65536):
                port.sendall(data)
            port.shutdown(socket.SHUT_WR)

    def _check_time(self) -> None:
        if time.monotonic() < self._deadline or self._status is not None:
            return
        if self._stopping:
            raise LabError(f"The command in the lab did not end within {STOP_LIMIT:.0f} s of the signal.")
        if self._running:
            raise LabError(f"The lab hung: it gave no sign of life for {ALIVE_LIMIT:.0f} s.")
        waited = time.monotonic() - self._began
        raise NotStarted(f"The lab did not take the command within {waited:.0f} s: it hung {self._where()}.")

    def _where(self) -> str:
        if self._running:
            return "while the command was running"
        return f"in its stage {list(self.stages)[-1]!r}" if self.stages else "before its init was up"

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, lambda n, _: self.signal(n)) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _read(end: object) -> bytes:
    assert isinstance(end, socket.socket)
    try:
        return end.recv(65536)
    except ConnectionResetError:  # QEMU was killed with something unread
        return b""
