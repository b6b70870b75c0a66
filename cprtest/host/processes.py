# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding and ending processes by the mark in their environment, never by name.

A process id alone may have been recycled between looking and killing. So a process is first pinned
with a pidfd, then recognised once more, and only then killed through that pidfd.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARK = "CPRTEST_RUN"
PROC = Path("/proc")
_EXEC_LIMIT = 2.0


def processes_of(ident: str) -> list[int]:
    """Ids of the processes that were executed with CPRTEST_RUN=ident in their environment.

    Source: /proc/PID/environ (proc_pid_environ(5)), the environment at the time of execve. Processes
    of other users are not seen, unless we are root.
    """
    return [pid for pid in _all_pids() if carries_mark(pid, ident)]


def carries_mark(pid: int, ident: str) -> bool:
    """Whether process `pid` was executed with CPRTEST_RUN=ident; false when it is gone or not readable."""
    end = time.monotonic() + _EXEC_LIMIT
    try:
        while not (environ := (PROC / str(pid) / "environ").read_bytes()):
            if not _in_execve(pid) or time.monotonic() > end:
                return False
            time.sleep(0.001)
    except OSError:
        return False
    return f"{MARK}={ident}".encode() in environ.split(b"\0")


def _in_execve(pid: int) -> bool:
    """Whether the process is between the start of execve and having an environment again.

    The parent is told of a successful execve (close-on-exec) before that, so Popen returns in
    that window. Source: fs/binfmt_elf.c sets start_code, field 26 of /proc/PID/stat, after the
    environment. Kernel threads show 0 there as well, but have no executable.
    """
    process = PROC / str(pid)
    started = (process / "stat").read_text().rpartition(")")[2].split()[23] != "0"
    return not started and bool((process / "exe").readlink())


def start_time(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot, or None when it is gone or a zombie.

    Together with the process id it names one process for the whole life of the machine.
    Source: field 22 of /proc/PID/stat, counted behind the command's closing bracket.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def name_of(pid: int) -> str:
    """The command name of process `pid`, or "?" when it is gone."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def kill(pid: int, is_ours: Callable[[int], bool], limit: float) -> str | None:
    """SIGKILL process `pid` if `is_ours(pid)` holds once it is pinned, and wait for its end.

    `limit` in seconds. Returns its command name, or None when there was nothing to kill. Raises TimeoutError.
    """
    try:
        pinned = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if not is_ours(pid):
            return None
        name = name_of(pid)
        signal.pidfd_send_signal(pinned, signal.SIGKILL)
        waiter = select.poll()
        waiter.register(pinned, select.POLLIN)
        if not waiter.poll(limit * 1000):
            raise TimeoutError(f"process {pid} ({name}) did not end within {limit:g} s of SIGKILL")
        return name
    except ProcessLookupError:
        return None
    finally:
        os.close(pinned)


def kill_all(find: Callable[[], list[int]], is_ours: Callable[[int], bool], limit: float) -> list[str]:
    """Kill what `find` finds until it finds nothing more: a process may fork while being looked for.

    Returns the command names of what was killed. Raises TimeoutError after `limit` seconds.
    """
    end = time.monotonic() + limit
    killed: list[str] = []
    while pids := find():
        if time.monotonic() > end:
            raise TimeoutError(f"processes {pids} keep coming back after {limit:g} s of SIGKILL")
        for pid in pids:
            name = kill(pid, is_ours, max(0.1, end - time.monotonic()))
            if name is not None:
                killed.append(name)
    return killed


def _all_pids() -> Iterator[int]:
    own = os.getpid()
    for entry in os.scandir(PROC):
        if entry.name.isdecimal() and int(entry.name) != own:
            yield int(entry.name)
