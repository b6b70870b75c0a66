# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's vhost worker of the source gets hardly any CPU: whoever waits for it waits long."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault
from cprtest.host.programs import program
from cprtest.machine.vhost import workers

if TYPE_CHECKING:
    from cprtest.transfer import Transfer


class WorkerStarved(Fault):
    """Workers run only when nobody else wants the CPU (SCHED_IDLE, sched(7)), and somebody always does.

    To stop a ring and to give a device up is to wait for its worker (drivers/vhost/vhost.c). For a host that
    nobody else needs: the lab.
    """

    name = "vhost-worker-starved"
    breaks = "the CPU time of the source's vhost workers"
    phase = "release"
    side = "source"

    def ready(self, transfer: Transfer) -> None:
        """Starve them; they end with the source's ownership."""
        self._busy = [
            subprocess.Popen([program("sh"), "-c", "while :; do :; done"]) for _ in os.sched_getaffinity(0)
        ]
        starved = workers(transfer.source.pid)
        for worker in starved:
            os.sched_setscheduler(worker, os.SCHED_IDLE, os.sched_param(0))
        if starved and all(os.sched_getscheduler(worker) == os.SCHED_IDLE for worker in starved):
            self.struck(
                f"threads {', '.join(map(str, starved))} are SCHED_IDLE beside {len(self._busy)} busy loops"
            )

    def undo(self, transfer: Transfer) -> None:
        """End those that take the CPU."""
        for busy in getattr(self, "_busy", ()):
            busy.kill()
            busy.wait()
