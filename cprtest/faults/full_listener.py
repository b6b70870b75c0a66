# SPDX-License-Identifier: GPL-2.0-or-later
"""A listener that nobody serves, on the cpr channel, the main channel, or for an earlier migration."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault
from cprtest.faults.relay import unix_listener
from cprtest.limits import wait_until

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer


class _FullListener(Fault):
    """A listener that never accepts, and whose queue is full: connect() hangs (unix(7))."""

    breaks = "the main channel"
    phase = "stream"
    side = "source"

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def _listen(self, transfer: Transfer) -> str:
        """Its path."""
        path = str(transfer.scratch / "full")
        self._sockets.append(unix_listener(path, 0))
        filler = socket.socket(socket.AF_UNIX)
        filler.connect(path)
        self._sockets.append(filler)
        return path

    def _cancel(self, transfer: Transfer) -> str:
        """Cancel while a thread of the source hangs in connect(). Returns the evidence."""
        pid = transfer.source.pid
        wait_until("the source to hang in connect()", lambda: _hangs_in_connect(pid), 10)
        transfer.source.qmp.command("migrate_cancel")
        return "a thread of the source waited in unix_stream_connect()"

    def undo(self, transfer: Transfer) -> None:
        """Nobody listens any more: the thread gets its error."""
        for sock in self._sockets:
            sock.close()


class NeverAccepted(_FullListener):
    """The main channel is never accepted, connect() hangs, and the user cancels."""

    name = "main-never-accepted-cancelled"

    def ready(self, transfer: Transfer) -> None:
        """Send the source there."""
        transfer.main["path"] = self._listen(transfer)

    def strike(self, transfer: Transfer) -> None:
        """Cancel."""
        self.struck(self._cancel(transfer))


class EarlierHangs(_FullListener):
    """An ordinary migration that was cancelled still hangs in connect(), and is registered for yank."""

    name = "earlier-migration-hangs"
    breaks = "the registration for yank"

    def ready(self, transfer: Transfer) -> None:
        """Begin one, and cancel it."""
        qmp = transfer.source.qmp
        qmp.command("migrate-set-parameters", mode="normal")
        qmp.command("migrate", uri=f"unix:{self._listen(transfer)}")
        self._hanging = self._cancel(transfer)
        qmp.command("migrate-set-parameters", mode="cpr-transfer")

    def strike(self, transfer: Transfer) -> None:
        """It has begun."""
        self.struck(self._hanging)


class CprNotAccepted(_FullListener):
    """The cpr channel is never accepted: the source must not wait in connect(), where none can cancel."""

    name = "cpr-backlog-full"
    breaks = "the cpr channel's listener"
    phase = "handover"
    side = "target"

    def ready(self, transfer: Transfer) -> None:
        """Send the source there."""
        transfer.cpr["path"] = self._listen(transfer)

    def confirm(self, outcome: Outcome) -> None:
        """The source says so."""
        if os.strerror(errno.EAGAIN) in outcome.refusal:
            self.struck(f"QEMU said {outcome.refusal}", outcome.since)


def _hangs_in_connect(pid: int) -> bool:
    """A thread is in connect(): system call 42 on x86-64 (proc_pid_syscall(5)), or says so by its name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            if (task / "syscall").read_text().split()[0] == "42":
                return True
        except OSError:
            continue
    return False
