# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc lists of one process: its threads and its open files. What goes while one looks is left out.

Raises FileNotFoundError when there is no such process. By system calls and little else, since QEMUs are
looked at while their guest stands still: pathlib takes ten times as long.
"""

# ruff: noqa: PTH115, PTH208

import contextlib
import os


def threads(pid: int) -> dict[int, str]:
    """The names of the process's threads, by thread id."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[int(name)] = text(f"/proc/{pid}/task/{name}/comm").strip()
    return found


def times_run(pid: int, thread: int) -> int:
    """How often a thread got a CPU (third field of schedstat, Documentation/scheduler/sched-stats)."""
    return int(text(f"/proc/{pid}/task/{thread}/schedstat").split()[2])


def state(pid: int, thread: int) -> str:
    """What a thread does: R runs or wants to, S sleeps, and so on (proc_pid_stat(5))."""
    return text(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()[0]


def files(pid: int) -> dict[int, str]:
    """What the process's descriptors lead to, by number: a path, socket:[1234], /memfd:NAME ..."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def text(path: str) -> str:
    """A file of /proc."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace")
