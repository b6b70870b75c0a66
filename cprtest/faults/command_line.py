# SPDX-License-Identifier: GPL-2.0-or-later
"""The target's command line: another guest than the source's, limits too low, too late, not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault

if TYPE_CHECKING:
    from cprtest.transfer import TargetPlan, Transfer


class OtherTarget(Fault):
    """The target is started with another command line: `change` makes it of the right one."""

    phase = "acquire"
    side = "target"

    def __init__(self, name: str, change: Callable[[TargetPlan], None]) -> None:
        self.name = f"target-{name}"
        self.breaks = f"the target's command line: {name}"
        self._change = change

    def arm(self, transfer: Transfer) -> None:
        """Change it."""
        self._change(transfer.plan)
        self.struck(f"the target was started with {self.breaks.partition(': ')[2]}")


class NeverStarts(OtherTarget):
    """What should become the target ends before it is QEMU."""

    def __init__(self) -> None:
        super().__init__("never-starts", lambda plan: plan.prefix.append("false"))

    def ready(self, transfer: Transfer) -> None:
        """Nobody holds the cpr channel's listener any more."""
        transfer.target.process.wait()


class StartsLate(Fault):
    """The target is started only after the source has handed the descriptors over."""

    name = "target-starts-late"
    breaks = "the order in which the sides are started"
    phase = "handover"
    side = "target"

    def arm(self, transfer: Transfer) -> None:
        """A shell that waits for a byte before it becomes QEMU."""
        waiting, self._go = os.pipe()
        self._waiting = waiting
        transfer.plan.fds.append(waiting)
        transfer.plan.prefix += ["sh", "-c", f'read -r _ </proc/self/fd/{waiting}; exec "$@"', "sh"]

    def strike(self, transfer: Transfer) -> None:
        """`migrate` has been answered; let it start."""
        self.struck(f"the target was still {Path(f'/proc/{transfer.target.pid}/exe').readlink().name}")
        os.write(self._go, b"\n")

    def undo(self, transfer: Transfer) -> None:
        """Close the pipe."""
        for name in ("_waiting", "_go"):
            if hasattr(self, name):
                os.close(getattr(self, name))
                delattr(self, name)


class NoCprChannel(Fault):
    """The target has no cpr channel: it takes the source's descriptors never, and the user cancels."""

    name = "target-without-cpr-channel-cancelled"
    breaks = "the target's command line: no cpr channel"
    phase = "handover"
    side = "target"

    def arm(self, transfer: Transfer) -> None:
        """Leave it out; the socket stays with the target, unread."""
        at = transfer.plan.place_of("cpr")
        del transfer.plan.extra[at - 1 : at + 1]

    def strike(self, transfer: Transfer) -> None:
        """Cancel when the target is up and waits for an ordinary migration."""
        transfer.target.ready()
        self.struck(f"the target was {transfer.target.run_state()} without cpr state")
        transfer.source.qmp.command("migrate_cancel")


def more_memory(plan: TargetPlan) -> None:
    """Twice the memory."""
    plan.spec = replace(plan.spec, memory_mib=2 * plan.spec.memory_mib)


def less_memory(plan: TargetPlan) -> None:
    """Half the memory."""
    plan.spec = replace(plan.spec, memory_mib=plan.spec.memory_mib // 2)


def more_vcpus(plan: TargetPlan) -> None:
    """One vCPU more."""
    plan.spec = replace(plan.spec, vcpus=plan.spec.vcpus + 1)


def no_devices(plan: TargetPlan) -> None:
    """No disk, no NIC."""
    plan.spec = replace(plan.spec, devices=())


def machine(name: str) -> Callable[[TargetPlan], None]:
    """The machine type `name`."""
    return lambda plan: plan.extra.extend(["-machine", name])


def option(*words: str) -> Callable[[TargetPlan], None]:
    """More options."""
    return lambda plan: plan.extra.extend(words)


def starved(plan: TargetPlan) -> None:
    """A CPU only when nobody else wants it (SCHED_IDLE, sched(7))."""
    plan.prefix.extend(["chrt", "--idle", "0"])


def limit(resource: str, value: int) -> Callable[[TargetPlan], None]:
    """A resource limit, as prlimit(1) calls it: nofile (descriptors), as (bytes of address space), fsize."""
    return lambda plan: plan.prefix.extend(["prlimit", f"--{resource}={value}:{value}", "--"])
