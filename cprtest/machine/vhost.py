# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence that a QEMU owns vhost devices, and that they do the work.

VHOST_SET_OWNER makes a worker that shows among the owner's threads as vhost-PID (kernel 6.4 and later,
drivers/vhost/vhost.c). A QEMU that lost vhost and went on in user space has none, though its guest answers.
"""

from collections.abc import Callable

from cprtest.host import procfs


def workers(pid: int) -> list[int]:
    """Thread ids of the vhost workers owned by process `pid`."""
    return owned(pid, procfs.threads(pid))


def owned(pid: int, threads: dict[int, str]) -> list[int]:
    """Those of `threads`, by thread id, that are vhost workers owned by process `pid`."""
    return sorted(thread for thread, name in threads.items() if name == f"vhost-{pid}")


def assert_in_use(pid: int, count: int, traffic: Callable[[], object]) -> None:
    """Process `pid` owns exactly `count` vhost workers, and `traffic` makes them run.

    Raises AssertionError otherwise.
    """
    owned = workers(pid)
    if len(owned) != count:
        threads = sorted(procfs.threads(pid).values())
        raise AssertionError(
            f"expected {count} vhost workers of process {pid}, found {owned}; threads: {threads}"
        )
    before = _runs(pid, owned)
    traffic()
    if _runs(pid, owned) <= before:
        raise AssertionError(f"the vhost workers {owned} of process {pid} slept while packets went through")


def _runs(pid: int, threads: list[int]) -> int:
    return sum(procfs.times_run(pid, thread) for thread in threads)
