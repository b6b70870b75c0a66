# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence from /proc that a QEMU runs its guest, or does not, whatever its run state says.

QEMU names its vCPU threads "CPU 0/KVM" or "CPU 0/TCG" (-name debug-threads=on); one of a stopped VM sleeps.
The kernel counts how often each thread got a CPU.
"""

import contextlib
import re
from collections.abc import Callable, Iterable

from cprtest.host import procfs
from cprtest.machine.process import Machine
from cprtest.timeline.timeline import tag

_NAME = re.compile(r"CPU \d+/")


def assert_still(machines: Iterable[Machine], during: Callable[[], object]) -> None:
    """No vCPU of `machines` runs during `during`. Raises AssertionError blaming the stop, or the resume."""
    before = [(machine, runs(machine.pid)) for machine in machines]
    during()
    for machine, count in before:
        more = runs(machine.pid) - count
        if more:
            phase = "stop" if machine.actor == "source" else "resume"
            raise AssertionError(f"vCPUs of the {machine.actor} ran {more} times in a hand-over {tag(phase)}")


def runs(pid: int) -> int:
    """How often the vCPU threads of process `pid` got a CPU; 0 where it has none yet."""
    count = 0
    for thread, name in procfs.threads(pid).items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            if _NAME.match(name):
                count += procfs.times_run(pid, thread)
    return count
