# SPDX-License-Identifier: GPL-2.0-or-later
"""The processes below one process, and their end.

A process that called prctl(PR_SET_CHILD_SUBREAPER) inherits every orphan below it, so what a test
started, however it detached itself, stays below the test's keeper and is found here.
"""

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_COMMAND_SHOWN = 60


@dataclass(frozen=True)
class Process:
    """A process as a person wants to see it named."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


def below(root: int) -> list[Process]:
    """All living descendants of process `root`; zombies are dead and not counted."""
    children: dict[int, list[int]] = {}
    dead = set()
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # proc_pid_stat(5): state and parent follow the command name, which may hold anything.
                state, parent = (_PROC / entry.name / "stat").read_text().rpartition(")")[2].split()[:2]
                children.setdefault(int(parent), []).append(int(entry.name))
                if state in "ZX":
                    dead.add(int(entry.name))
    found: list[int] = []
    todo = [root]
    while todo:
        offspring = children.get(todo.pop(), [])
        found += offspring
        todo += offspring
    return [Process(pid, _command(pid)) for pid in sorted(found) if pid not in dead]


def kill_below(root: int, limit: float) -> list[Process]:
    """SIGKILL all descendants of `root` until there are none, for at most `limit` seconds; returns survivors.

    Only for a subreaper's own descendants: they cannot be adopted by anybody else meanwhile.
    """
    end = time.monotonic() + limit
    while victims := below(root):
        if time.monotonic() > end:
            return victims
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
        wait_for_end(victims, max(0.05, min(1.0, end - time.monotonic())))
        reap()
    reap()
    return []


def wait_for_end(processes: list[Process], limit: float) -> None:
    """Wait until all of `processes` have ended, at most `limit` seconds."""
    end = time.monotonic() + limit
    for process in processes:
        try:
            pinned = os.pidfd_open(process.pid)
        except OSError:
            continue
        try:
            waiter = select.poll()
            waiter.register(pinned, select.POLLIN)
            waiter.poll(max(0.0, end - time.monotonic()) * 1000)
        finally:
            os.close(pinned)


def reap() -> None:
    """Collect the exit statuses of all children that have ended, so that none stays a zombie."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _command(pid: int) -> str:
    try:
        words = (
            (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
        command = words or (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"
    return command if len(command) <= _COMMAND_SHOWN else command[: _COMMAND_SHOWN - 1] + "…"
