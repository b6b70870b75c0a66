# SPDX-License-Identifier: GPL-2.0-or-later
"""The target is started twice, as by management software that has lost count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cprtest.faults.stations import Action, Station
from cprtest.limits import wait_until
from cprtest.machine.process import Machine
from cprtest.machine.spec import channel, incoming

if TYPE_CHECKING:
    from cprtest.transfer import Transfer


class StartedTwice(Action):
    """A second target comes up on the addresses of the first, from which the source has connected to it.

    It takes the cpr channel's path for itself, and waits there. For guests without a NIC.
    """

    name = "target-started-twice"
    breaks = "the number of targets"
    side = "target"

    def act(self, transfer: Transfer, station: Station) -> str:
        """Start it, and wait until the path is its own."""
        cpr = transfer.scratch / "cpr"
        first = _socket(cpr)
        paths = {"cpr": cpr, "main": transfer.scratch / "main"}
        channels = [channel(kind, {"type": "unix", "path": str(path)}) for kind, path in paths.items()]
        self._second = Machine(
            transfer.target.qemu,
            transfer.plan.spec,
            transfer.directory / "second-target",
            actor="target",
            extra=incoming(channels),
        )

        def taken() -> bool:
            return _socket(cpr) not in (None, first)

        wait_until("a second target to listen", taken, 10, lambda: self._second.gone() or "it starts")
        return f"process {self._second.pid} listens on the cpr channel's path, too"

    def undo(self, transfer: Transfer) -> None:
        """End it. Raises AssertionError if it did more than wait."""
        second = getattr(self, "_second", None)
        if second is not None:
            try:
                state = second.run_state()
            finally:
                second.kill()
            del self._second
            if state != "":
                raise AssertionError(f"a second target that nobody called is {state or 'gone'}")


def _socket(path: Path) -> tuple[int, int] | None:
    """Tells sockets that were bound to `path` one after the other apart; None if there is none, as after a
    target has taken over. A file system may give the number of one that is gone to the next.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns
