# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc lists of one process: its threads and its open files. What goes while one looks is left out.

Raises FileNotFoundError when there is no such process.
"""

import contextlib
from pathlib import Path


def threads(pid: int) -> dict[int, str]:
    """The names of the process's threads, by thread id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[int(task.name)] = (task / "comm").read_text().strip()
    return found


def times_run(pid: int, thread: int) -> int:
    """How often a thread got a CPU (third field of schedstat, Documentation/scheduler/sched-stats)."""
    return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[2])


def files(pid: int) -> dict[int, str]:
    """What the process's descriptors lead to, by number: a path, socket:[1234], /memfd:NAME ..."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(link.name)] = str(link.readlink())
    return found
