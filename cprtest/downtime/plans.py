# SPDX-License-Identifier: GPL-2.0-or-later
"""The experiments there are, and which of them a quick and a full benchmark do, with how many blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cprtest.downtime.loads import LOADS
from cprtest.downtime.observers import OBSERVERS
from cprtest.downtime.settings import COMPARED, Experiment, Setting, growing, parsed
from cprtest.errors import UsageError
from cprtest.host import memory
from cprtest.paths import lane

EARLY, LATE = "reference", "mutants:stop-after-handover"
"""The same QEMU but for the moment of the stop: before the descriptors leave, and after."""


def _memories() -> tuple[int, ...]:
    """MiB: 256, 512, ... up to three quarters of the host's; both sides share a guest's memory."""
    most = memory.total_mib() * 3 // 4
    return tuple(256 << n for n in range(20) if 256 << n <= most)


MEMORIES = _memories()

BARS = (1, 256, 4096)
"""MiB: scripts/lab run --ivshmem 64M,1M,256M,4G"""

DATA = (1, 64, 512, 4096)
"""MiB: scripts/lab run --memory 12G"""

PLANTED_MS = {"here": 6, "lab": 170}
"""What a phase is made slower by: a tenth (bare host) and a fifth (lab) of the vCPUs' blackout on the machine
of record, which was 60 and 860 ms."""


@dataclass(frozen=True)
class Idea:
    """An experiment as it is offered: its question, and what it measures from the settings a user fixes.

    quick, full: blocks. lab: it needs what only the lab, or a host like it, has.
    """

    question: str
    settings: Callable[[Setting], Sequence[Setting]]
    quick: int = 0
    full: int = 12
    axis: str = ""
    lab: bool = False


def _growth(
    axis: str,
    what: str,
    values: Sequence[int],
    *,
    quick: int = 0,
    full: int = 6,
    lab: bool = False,
    **fixed: Any,
) -> Idea:
    """The experiment that lets `axis` grow; one for the lab has its NICs on kernel vhost unless `fixed`."""

    def settings(base: Setting) -> Sequence[Setting]:
        return growing(replace(base, **{"vhost": lab or base.vhost, **fixed}), axis, values)

    return Idea(f"How does the pause grow with {what}?", settings, quick, full, axis, lab)


def _modes(base: Setting) -> list[Setting]:
    early = replace(base, qemu=EARLY)
    return [
        early,
        replace(base, qemu=LATE),
        replace(base, qemu="stock"),
        replace(early, mode="cpr-exec"),
        replace(base, qemu="stock", mode="live"),
        replace(base, qemu="stock", mode="cpr-reboot"),
        replace(base, qemu="stock", mode="backend-transfer"),
    ]


def _loads(base: Setting) -> list[Setting]:
    return [replace(base, qemu=qemu, load=load) for load in LOADS for qemu in (EARLY, LATE)]


def _vhost_loads(base: Setting) -> list[Setting]:
    # A late stop hands no vhost device over.
    return [replace(base, qemu=EARLY, vhost=True, load=load) for load in LOADS]


def _planted(base: Setting) -> list[Setting]:
    ms = PLANTED_MS[lane()]
    names = ("mutants", f"mutants:stop-slow={ms}", f"mutants:acquire-slow={ms}")
    return [replace(base, qemu=qemu) for qemu in names]


def _hidden(base: Setting) -> list[Setting]:
    return [base, replace(base, ahead=False), replace(base, kernel=False)]


def _observers(base: Setting) -> list[Setting]:
    names = ("none", "blackout", *(name for name in OBSERVERS if name not in ("none", "blackout")))
    return [replace(base, observers=name) for name in names]


IDEAS = {
    "modes": Idea("What does each way to hand a guest over cost?", _modes, quick=11, full=15),
    "planted": Idea("Is a phase that takes a little longer found, and named?", _planted, full=20),
    "hidden": Idea("What of the target's work can be kept out of the pause?", _hidden, quick=11, full=12),
    "loads": Idea("Does load make the pause longer, with early and with late stop?", _loads, full=11),
    "vhost-loads": Idea("Does load lengthen the pause with kernel vhost?", _vhost_loads, full=11, lab=True),
    "nics": _growth("nics", "NICs", (1, 2, 4, 8), quick=8),
    "memory": _growth("memory", "memory (MiB)", MEMORIES),
    "hugepages": _growth("memory", "memory in huge pages (MiB)", MEMORIES, backing="hugepages"),
    "vcpus": _growth("vcpus", "vCPUs", (1, 2, 4, 8, 16), full=5),
    "disks": _growth("disks", "disks", (0, 2, 4, 8)),
    "queues": _growth("queues", "the queue pairs of a NIC", (1, 2, 4, 8, 16, 64), full=5),
    "vhost": _growth("queues", "queue pairs of kernel vhost", (1, 2, 4, 8, 16, 64), full=4, lab=True),
    "vfio": _growth("vfio", "passthrough devices", (0, 1, 2, 4, 6, 8), full=4, lab=True),
    "bars": _growth("bar", "the BAR of a passthrough device", BARS, full=4, lab=True),
    **{
        # A late stop hands no vhost device over.
        name: _growth("data", what, DATA, full=4, lab=True, vhost=False, qemu=qemu, migration=moves)
        for name, what, qemu, moves in (
            ("data", "the state of a device that could migrate it", EARLY, "on"),
            ("data-late", "that state, the VM stopped late", LATE, "on"),
            ("data-off", "that state, its migration switched off", EARLY, "off"),
            ("data-off-late", "that state, switched off and stopped late", LATE, "off"),
        )
    },
    "observers": Idea("What does measuring itself cost?", _observers, full=16),
}  # fmt: skip
"""By the name that scripts/downtime takes."""


def planned(names: Sequence[str], plan: str, base: Setting, blocks: int | None) -> list[Experiment]:
    """The experiments of `plan` (quick or full), or those of these names. blocks: instead of the plan's.

    Raises UsageError for a name there is not.
    """
    unknown = [name for name in names if name not in IDEAS]
    if unknown:
        raise UsageError(f"There is no experiment {unknown[0]!r}; there are {', '.join(IDEAS)}.")
    chosen = names or [name for name, idea in IDEAS.items() if getattr(idea, plan) and not idea.lab]
    return [
        Experiment(
            name,
            IDEAS[name].question,
            tuple(IDEAS[name].settings(base)),
            blocks or getattr(IDEAS[name], plan) or IDEAS[name].full,
            IDEAS[name].axis,
        ).with_noise()
        for name in chosen
    ]


def compared(words: Sequence[str], blocks: int) -> list[Experiment]:
    """One experiment with the settings that `words` describe, against the first of them."""
    question = f"How do {', '.join(words[1:])} compare with {words[0]}?"
    return [Experiment(COMPARED, question, tuple(map(parsed, words)), blocks).with_noise()]
