# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence from /proc that a QEMU runs its guest, or does not, whatever its run state says.

QEMU names its vCPU threads "CPU 0/KVM" or "CPU 0/TCG" (-name debug-threads=on); one of a stopped VM sleeps.
The kernel counts how often each thread got a CPU.
"""

import contextlib
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from cprtest.host import procfs
from cprtest.limits import TimeLimit, wait_until
from cprtest.machine.process import Machine
from cprtest.timeline.timeline import tag

_T = TypeVar("_T")
_NAME = re.compile(r"CPU \d+/")


def assert_still(machines: Iterable[Machine], during: Callable[[], object]) -> None:
    """No vCPU of `machines` runs during `during`. Raises AssertionError blaming the stop, or the resume.

    A vCPU that has stopped says so before its thread sleeps, which on a busy host may want a CPU once more.
    """
    before = []
    for machine in machines:
        with contextlib.suppress(TimeLimit):  # one that goes on running is counted below
            wait_until(f"the vCPUs of the {machine.actor} to sleep", partial(_sleep, machine.pid), 2)
        before.append((machine, runs(machine.pid)))
    during()
    for machine, count in before:
        more = runs(machine.pid) - count
        if more:
            phase = "stop" if machine.actor == "source" else "resume"
            raise AssertionError(f"vCPUs of the {machine.actor} ran {more} times in a hand-over {tag(phase)}")


def runs(pid: int) -> int:
    """How often the vCPU threads of process `pid` got a CPU; 0 where it has none yet."""
    return sum(_of_vcpus(pid, procfs.times_run))


def _sleep(pid: int) -> bool:
    return all(state == "S" for state in _of_vcpus(pid, procfs.state))


def _of_vcpus(pid: int, look: Callable[[int, int], _T]) -> list[_T]:
    found = []
    for thread, name in procfs.threads(pid).items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            if _NAME.match(name):
                found.append(look(pid, thread))
    return found
