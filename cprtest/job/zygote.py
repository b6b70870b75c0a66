# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that forks a keeper for every test, so that no test waits for Python to start and import.

It is forked from the job's process before that has an event loop or threads, imports what tests
need once, and then answers to the job over a socket pair, JSON objects, one a line:

    {"op": "spawn", "task": 3, "arguments": [...], "output_dir": "...", "soft": 30}
    {"op": "stop", "task": 3, "reason": "..."}      the test gets `soft` seconds for its tearDown
    {"op": "kill", "task": 3}                       now
    {"ended": 3}                                    the answer, once nothing of the task is left

It inherits the orphans of keepers that were killed, and kills them. When the job's process ends in
whatever way, the socket closes: the tests are stopped, and the zygote ends.
"""

import contextlib
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from cprtest.job import descendants
from cprtest.job.prctl import set_subreaper

_ORPHAN_LIMIT = 20.0
_PRELOADED = (
    "cprtest.test",
    # What these are imported by is written so that others do without; nearly every test does not.
    "cprtest.host.kvm",
    "cprtest.observe.tracefs",
    "cprtest.timeline.draw",
    "ctypes",
)


class Zygote:
    """Forks keepers, sees them end, and speaks to the job over `job`."""

    def __init__(self, job: socket.socket) -> None:
        self._job = job
        self._buffer = b""
        self._job_is_there = True
        self._tasks: dict[int, dict[str, Any]] = {}  # by the keeper's pid
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Without a Python handler there is no wake-up either.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until the job has gone and every keeper has ended."""
        while self._job_is_there or self._tasks:
            sources: list[Any] = [self._wake_reader]
            if self._job_is_there:
                sources.append(self._job)
            ready, _, _ = select.select(sources, [], [])
            if self._wake_reader in ready:
                os.read(self._wake_reader, 4096)
                self._collect()
            if self._job in ready:
                self._receive()
        descendants.kill_below(os.getpid(), _ORPHAN_LIMIT)

    def _receive(self) -> None:
        try:
            data = self._job.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self._job_is_there = False
            for task in self._tasks.values():
                self._stop(task, "the process that ran the job is gone")
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if order["op"] == "spawn":
            self._spawn(order)
            return
        for pid, task in self._tasks.items():
            if task["task"] != order["task"]:
                continue
            if order["op"] == "stop":
                self._stop(task, order["reason"])
            else:
                task["killed"] = True
                os.kill(pid, signal.SIGKILL)

    def _spawn(self, order: dict[str, Any]) -> None:
        control_reader, control_writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            # The only open copy must be the zygote's, or its death would not be seen.
            os.close(control_writer)
            self._become_keeper(order, control_reader)
        os.close(control_reader)
        self._tasks[pid] = {**order, "control": control_writer, "killed": False}

    def _become_keeper(self, order: dict[str, Any], control: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._job.close()
            for descriptor in (
                self._wake_reader,
                self._wake_writer,
                *(t["control"] for t in self._tasks.values()),
            ):
                os.close(descriptor)
            from cprtest.job.keeper import keep  # noqa: PLC0415 - imported by preload() already

            status = keep(order["arguments"], Path(order["output_dir"]), control, order["soft"])
        except BaseException:
            traceback.print_exc()
            with contextlib.suppress(Exception):
                sys.stderr.flush()
        finally:
            os._exit(status)

    @staticmethod
    def _stop(task: dict[str, Any], reason: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(task["control"], f"{reason}\n".encode())

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            task = self._tasks.pop(pid, None)
            if task is not None:
                self._ended(task, status)

    def _ended(self, task: dict[str, Any], status: int) -> None:
        os.close(task["control"])
        if status != 0:
            orphans = self._kill_orphans()
            self._report(task, status, orphans)
        if self._job_is_there:
            with contextlib.suppress(OSError):
                self._job.sendall(json.dumps({"ended": task["task"]}).encode() + b"\n")

    def _kill_orphans(self) -> list[str]:
        """Kill what a dead keeper left: children of ours that are no keepers, and all below them."""
        keepers = set(self._tasks)
        known = keepers | {process.pid for keeper in keepers for process in descendants.below(keeper)}
        killed = []
        for orphan in descendants.below(os.getpid()):
            if orphan.pid not in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan.pid, signal.SIGKILL)
                    killed.append(orphan)
        descendants.wait_for_end(killed, _ORPHAN_LIMIT)
        return [str(process) for process in killed]

    @staticmethod
    def _report(task: dict[str, Any], status: int, orphans: list[str]) -> None:
        from cprtest.job.keeper import report_death  # noqa: PLC0415 - imported by preload() already

        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
        if task["killed"]:
            how = "had to be killed, because it did not stop when told to"
        reason = f"The keeper of the test {how}; see runner.log of the test."
        if orphans:
            reason += f" Killed with it: {', '.join(orphans)}."
        # The job's status server is gone when the job is; there is nobody left to tell then.
        with contextlib.suppress(OSError):
            report_death(task["arguments"], reason)


def start() -> tuple[socket.socket, int]:
    """Fork the zygote; the job's end of the socket pair, and the zygote's process id.

    Raises RuntimeError when this process has more than one thread: a forked copy of a lock that
    another thread holds is never unlocked again.
    """
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate())
        raise RuntimeError(f"The zygote must be forked before there are threads, but there are: {names}")
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    status = 1
    try:
        ours.close()
        _become_zygote()
        Zygote(theirs).run()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _become_zygote() -> None:
    os.setsid()  # Ctrl-C is for the job, which then tells us what to stop
    set_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Avocado's runner processes start without the job's log handlers; so do ours.
    for logger in (logging.getLogger(), *logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    preload()


def preload() -> None:
    """Import what every test needs. What is broken in it will show in the tests, with a traceback."""
    importlib.import_module("cprtest.job.keeper")
    for name in _PRELOADED:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError("Importing cprtest.test started a thread; tests cannot be forked after that.")
