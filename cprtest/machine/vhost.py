# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence that a QEMU owns vhost devices, and that they do the work.

VHOST_SET_OWNER makes a worker that shows among the owner's threads as vhost-PID (kernel 6.4 and later,
drivers/vhost/vhost.c). A QEMU that lost vhost and went on in user space has none, though its guest answers.
"""

from collections.abc import Callable
from pathlib import Path


def workers(pid: int) -> list[int]:
    """Thread ids of the vhost workers owned by process `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            if (task / "comm").read_text().strip() == f"vhost-{pid}":
                found.append(int(task.name))
        except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            continue
    return sorted(found)


def assert_in_use(pid: int, count: int, traffic: Callable[[], object]) -> None:
    """Process `pid` owns exactly `count` vhost workers, and `traffic` makes them run.

    Raises AssertionError otherwise.
    """
    owned = workers(pid)
    if len(owned) != count:
        threads = sorted((task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir())
        raise AssertionError(
            f"expected {count} vhost workers of process {pid}, found {owned}; threads: {threads}"
        )
    before = _runs(pid, owned)
    traffic()
    if _runs(pid, owned) <= before:
        raise AssertionError(f"the vhost workers {owned} of process {pid} slept while packets went through")


def _runs(pid: int, threads: list[int]) -> int:
    """How often the threads got a CPU (third field of schedstat, Documentation/scheduler/sched-stats)."""
    return sum(int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[2]) for tid in threads)
