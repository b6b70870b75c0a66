# SPDX-License-Identifier: GPL-2.0-or-later
"""One test: its keeper process runs it in a child, outlives it, and lets nothing of it stay behind.

Avocado's own runner waits for a result for ever when the test's process is killed, sends a hundred
messages a second while it waits, and leaves the test's children alone. This one waits for what
happens: a message, the end of the process, or the order to stop it.

It runs in a process forked from the zygote (see zygote.py) and speaks Avocado's status protocol,
avocado/core/nrunner/task.py: JSON objects, one a line, to the job's status server.
"""

import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from avocado.core.nrunner.runnable import Runnable
from avocado.core.nrunner.task import json_dumps
from avocado.core.utils import messages
from avocado.plugins.runners.avocado_instrumented import AvocadoInstrumentedTestRunner, RunnerApp

from cprtest.errors import CprError
from cprtest.job import descendants
from cprtest.job.prctl import set_subreaper
from cprtest.job.verdict import died, stopped, with_leftovers
from cprtest.limits import KILL_LIMIT

Message = dict[str, Any]

FINISHED = 0
"""Exit status of a keeper that has reported the test's result; after any other the zygote reports."""

EXIT_LIMIT = 10.0
"""Seconds from a test's result to the end of its process."""

LEFTOVER_GRACE = 2.0
"""Seconds for processes that are about to end by themselves when the test has ended."""


class _Outbox:
    """The test's end of the pipe, in the shape of the queue that Avocado's logging writes to."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def put(self, message: Message) -> None:
        """Send one message; the test's threads take turns."""
        with self._lock:
            self._pipe.send(message)


class Keeper(AvocadoInstrumentedTestRunner):  # type: ignore[misc]  # Avocado has no types
    """Avocado's runner of instrumented tests, with a watch kept on the test's process.

    `control` is a pipe: one line on it is the reason to stop the test; its end of file means that the
    zygote is gone, and makes the keeper `abandoned`: the result is not wanted any more, because the job
    is gone too or reports the zygote's death itself. `soft`: seconds the test then has for its tearDown.
    """

    def __init__(self, control: Connection, soft: float) -> None:
        self._control = control
        self._soft = soft
        self.abandoned = False

    def run(self, runnable: Runnable) -> Iterator[Message]:
        """Run the test and yield Avocado's messages; the last one is its result, whatever became of it."""
        yield messages.StartedMessage.get()
        inbox, outbox = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=self._child, args=(runnable, inbox, outbox)
        )
        process.start()
        outbox.close()
        finished, stopped_for = None, ""
        for item in self._watch(process, inbox):
            if isinstance(item, str):
                stopped_for = item
            elif item.get("status") == "finished":
                finished = item
            elif item.get("type") != "early_state":
                yield item
        overdue = finished is not None and process.is_alive()
        if process.is_alive():
            process.kill()
        process.join(KILL_LIMIT)
        without_result = finished is None
        if finished is None:
            finished = died(process.exitcode, stopped_for)
        elif stopped_for:
            finished = stopped(finished, stopped_for)
        if overdue:
            finished = with_leftovers(finished, [f"its own process, {EXIT_LIMIT:g} s after its result"], [])
        finished = _clean_floor(finished)
        if without_result:
            yield messages.LogMessage.get(_clean_run())
        yield finished

    def _child(self, runnable: Runnable, inbox: Connection, outbox: Connection) -> None:
        inbox.close()
        self._control.close()
        self._run_avocado(runnable, _Outbox(outbox))

    def _watch(self, process: Any, inbox: Connection) -> Iterator[Message | str]:
        """Messages of the test, and the reason when it was told to stop, until its process has ended."""
        sources: list[Any] = [inbox, process.sentinel, self._control]
        deadline: float | None = None
        while True:
            limit = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait(sources, limit)
            if self._control in ready:
                sources.remove(self._control)
                yield self._control_reason()
                process.terminate()
                deadline = time.monotonic() + self._soft
            if inbox in ready:
                try:
                    message = inbox.recv()
                except EOFError:
                    sources.remove(inbox)
                    continue
                yield message
                if message.get("status") == "finished":
                    deadline = time.monotonic() + EXIT_LIMIT
            elif process.sentinel in ready:
                process.join(EXIT_LIMIT)  # the sentinel is seen a moment before the end of the process
                return
            elif not ready:
                return

    def _control_reason(self) -> str:
        # Raw bytes, not Connection.recv: the other end is written with os.write.
        line = os.read(self._control.fileno(), 4096).decode(errors="replace").strip()
        self.abandoned = not line
        return line or "the process it was forked from is gone"


def _clean_run() -> str:
    """Give back what the run of a test that died held besides processes: directories, devices."""
    from cprtest.host.runs import clean_leftovers  # noqa: PLC0415 - hardly any test dies

    try:
        return "\n".join(clean_leftovers()) or "It held nothing but processes."
    except (OSError, CprError) as error:
        return f"Could not clean up after it: {error}"


def _clean_floor(finished: Message) -> Message:
    """The result once nothing of the test is left; what had to be killed makes it an error."""
    descendants.reap()
    left = descendants.below(os.getpid())
    if left:
        descendants.wait_for_end(left, LEFTOVER_GRACE)
        descendants.reap()
        left = descendants.below(os.getpid())
    if not left:
        return finished
    alive = descendants.kill_below(os.getpid(), KILL_LIMIT)
    return with_leftovers(finished, [str(process) for process in left], [str(process) for process in alive])


def keep(task_arguments: list[str], output_dir: Path, control_fd: int, soft: float) -> int:
    """Run the task that `task_arguments` describe, as `avocado-runner-* task-run` would; the exit status.

    To be called in a process forked for it alone, whose standard streams become OUTPUT_DIR/runner.log.
    """
    _become_keeper(output_dir)
    args = vars(RunnerApp().parser.parse_args(["task-run", *task_arguments]))
    runnable = Runnable.from_args(args)
    if runnable.kind == AvocadoInstrumentedTestRunner.name:
        runner = Keeper(Connection(control_fd, writable=False), soft)
    else:
        runner = runnable.pick_runner_class()()
    job_is_there = True
    with _connect(args["status_uri"][0]) as server:
        for message in runner.run(runnable):
            if message["status"] == "started":
                message["output_dir"] = str(output_dir)
            message.update(id=args["identifier"], job_id=args["job_id"])
            job_is_there = job_is_there and not getattr(runner, "abandoned", False)
            if job_is_there:
                try:
                    server.sendall(json_dumps(message).encode() + b"\n")
                except OSError:
                    job_is_there = False  # the test is stopped presently; its tearDown is still wanted
    _drop_empty_log(output_dir)
    return FINISHED


def report_death(task_arguments: list[str], reason: str) -> None:
    """Tell the job's status server that a task ended without a result of its own. Raises OSError."""
    args = vars(RunnerApp().parser.parse_args(["task-run", *task_arguments]))
    message = messages.FinishedMessage.get(
        "error", reason, fail_class="TestDied", id=args["identifier"], job_id=args["job_id"]
    )
    with _connect(args["status_uri"][0]) as server:
        server.sendall(json_dumps(message).encode() + b"\n")


def _become_keeper(output_dir: Path) -> None:
    os.setsid()
    set_subreaper()
    # Runs are per test (see cprtest.host.runs), so that a killed test's leftovers are known as such at once.
    os.environ.pop("CPRTEST_RUN", None)
    output_dir.mkdir(parents=True, exist_ok=True)
    log = os.open(_log(output_dir), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable(2, all_threads=False)


def _connect(uri: str) -> socket.socket:
    if ":" in uri:
        host, _, port = uri.rpartition(":")
        return socket.create_connection((host, int(port)))
    server = socket.socket(socket.AF_UNIX)
    server.connect(uri)
    return server


def _log(output_dir: Path) -> Path:
    return output_dir / "runner.log"


def _drop_empty_log(output_dir: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if not _log(output_dir).stat().st_size:
        _log(output_dir).unlink()
