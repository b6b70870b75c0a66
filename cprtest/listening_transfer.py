# SPDX-License-Identifier: GPL-2.0-or-later
"""A cpr-transfer to a QEMU that makes the cpr channel's socket itself: 10.0 cannot inherit one."""

from pathlib import Path

from cprtest.limits import wait_until
from cprtest.machine.process import Machine
from cprtest.machine.spec import GuestSpec, channel, incoming
from cprtest.transfer import TargetPlan, Transfer

_LISTENS = 1 << 16
"""__SO_ACCEPTCON, in the flags of a line of /proc/PID/net/unix."""


class ListeningTransfer(Transfer):
    """The target listens at a path, and `migrate` comes when the kernel says that it does."""

    def _planned(self, spec: GuestSpec) -> TargetPlan:
        self.main = {"type": "unix", "path": str(self.scratch / "main")}
        self.cpr = {"type": "unix", "path": str(self.scratch / "cpr")}
        return TargetPlan(spec, incoming([channel("cpr", self.cpr), channel("main", self.main)]), [])

    def _started_target(self) -> Machine:
        path = str(self.scratch / "cpr")
        target = self._start_target(self.plan)
        wait_until(
            "the target to listen for the cpr state", lambda: target.exit() or listens(target.pid, path), 10
        )
        return target


def listens(pid: int, path: str) -> bool:
    """Whether a UNIX socket of `path` in the network namespace of process `pid` takes connections."""
    # Num RefCount Protocol Flags Type St Inode Path (net/unix/af_unix.c). A connection would be the only one.
    lines = (line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:])
    return any(words[7:] == [path] and int(words[3], 16) & _LISTENS for words in lines)
