# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU that is short of something: descriptors on the source, a CPU for the target."""

from __future__ import annotations

import itertools
import resource
from typing import TYPE_CHECKING

from cprtest.faults.command_line import OtherTarget
from cprtest.faults.fault import Fault
from cprtest.host import procfs

if TYPE_CHECKING:
    from cprtest.transfer import Transfer


_STANDARD = 3
"""Input, output and error are never closed: with this limit there is no number left."""


class FewDescriptors(Fault):
    """The source may open only `spare` files more while it hands its guest over, or none at all (None).

    One more or less: it may close one meanwhile.
    """

    breaks = "the source's limit of open files"
    phase = "handover"
    side = "source"

    def __init__(self, spare: int | None) -> None:
        self.name = f"source-nofile-{'no' if spare is None else spare}-spare"
        self._spare = spare
        self._before: tuple[int, int] | None = None

    def ready(self, transfer: Transfer) -> None:
        """Lower the limit: open() gives the lowest free number, and none from the limit on (getrlimit(2))."""
        pid = transfer.source.pid
        used = procfs.files(pid)
        free = (number for number in itertools.count() if number not in used)
        limit = _STANDARD if self._spare is None else next(itertools.islice(free, self._spare, None))
        self._before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, self._before[1]))
        self.struck(f"the source had {len(used)} files open, and a limit of {limit}")

    def undo(self, transfer: Transfer) -> None:
        """Lift it."""
        if self._before and transfer.source.exit() is None:
            resource.prlimit(transfer.source.pid, resource.RLIMIT_NOFILE, self._before)


def starved() -> Fault:
    """The target gets a CPU only when nobody else wants it (SCHED_IDLE, sched(7))."""
    return OtherTarget("starved", lambda plan: plan.prefix.extend(["chrt", "--idle", "0"]))
