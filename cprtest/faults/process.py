# SPDX-License-Identifier: GPL-2.0-or-later
"""The processes: killed, crashed, stopped and continued, at a station of the transfer."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from cprtest.faults.stations import Action, Station
from cprtest.limits import wait_until

if TYPE_CHECKING:
    from cprtest.machine.process import Machine
    from cprtest.transfer import Transfer


def _of(transfer: Transfer, side: str) -> Machine:
    return transfer.source if side == "source" else transfer.target


class Killed(Action):
    """A side ends by a signal."""

    def __init__(self, side: str, number: signal.Signals = signal.SIGKILL) -> None:
        self.side = side
        self._number = number
        self.name = f"{side}-{number.name.lower()}"
        self.breaks = f"the {side}'s process, by {number.name}"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Send the signal and wait for the end."""
        return f"the {self.side} ended, {_of(transfer, self.side).kill(self._number)}"


class Paused(Action):
    """A side is stopped (SIGSTOP) while the other goes on, and continued."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.name = f"{side}-stopped-continued"
        self.breaks = f"the {side}'s progress"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Stop it, and see that it stands."""
        pid = _of(transfer, self.side).pid
        os.kill(pid, signal.SIGSTOP)
        wait_until(f"process {pid} to stand", lambda: _state(pid) == "T", 5)
        return f"/proc says that the {self.side} was stopped"

    def released(self, transfer: Transfer) -> None:
        """The channels run, the process does not; now it does again."""
        os.kill(_of(transfer, self.side).pid, signal.SIGCONT)


class Hung(Paused):
    """A target that is stopped and does not go on; the user cancels."""

    def __init__(self) -> None:
        super().__init__("target")
        self.name = "target-hangs-cancelled"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Stop it, and cancel while it hangs."""
        done = super().act(transfer, station)
        transfer.source.qmp.command("migrate_cancel")
        return done

    def released(self, transfer: Transfer) -> None:
        """It goes on hanging."""

    def undo(self, transfer: Transfer) -> None:
        """Let it go on, so that it can end."""
        if transfer.target.exit() is None:
            os.kill(transfer.target.pid, signal.SIGCONT)


class HungAndBack(Hung):
    """A target that is stopped until the user has cancelled, and then goes on as if nothing had happened."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "target-hangs-cancelled-goes-on"

    def undo(self, transfer: Transfer) -> None:
        """Let it go on, until it has closed the cpr channel and waits for the source to call."""
        super().undo(transfer)
        if transfer.target.exit() is None:
            transfer.target.ready()


def _state(pid: int) -> str:
    """The process's state, one letter (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0]
