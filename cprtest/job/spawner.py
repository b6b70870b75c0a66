# SPDX-License-Identifier: GPL-2.0-or-later
"""The Avocado spawner `cpr`: tests are forked from a zygote (see zygote.py) instead of started anew.

Chosen by `run.spawner = cpr` in avocado.cfg. Written against Avocado 113: avocado/core/plugin_interfaces.py
(Spawner) and avocado/core/task/statemachine.py (Worker), which calls it.
"""

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from avocado.core.nrunner.runnable import RUNNERS_REGISTRY_STANDALONE_EXECUTABLE
from avocado.core.plugin_interfaces import Spawner
from avocado.core.spawners.common import SpawnCapabilities, SpawnerMixin, SpawnMethod
from avocado.core.task.runtime import RuntimeTaskStatus

from cprtest.job import journal, zygote
from cprtest.job.keeper import EXIT_LIMIT, LEFTOVER_GRACE, report_death
from cprtest.limits import KILL_LIMIT

_CLEANING = EXIT_LIMIT + KILL_LIMIT + LEFTOVER_GRACE
_HEARD_LIMIT = 5.0


class CprSpawner(SpawnerMixin, Spawner):  # type: ignore[misc]  # Avocado has no types
    """Forks each test from a process that has everything imported, and leaves nothing of it running."""

    description = "Forks tests from a process that has everything imported"
    METHODS = (SpawnMethod.PYTHON_CLASS,)
    CAPABILITIES = (SpawnCapabilities.FILESYSTEM_SHARING,)

    def __init__(self, config: dict[str, Any] | None = None, job: Any = None) -> None:
        super().__init__(config, job)
        self._zygote: socket.socket | None = None
        self._zygote_pid = 0
        self._buffer = b""
        self._running: dict[int, tuple[asyncio.Future[None], list[str]]] = {}
        self._number = 0

    def is_operational(self) -> bool:
        """Start the zygote: Avocado asks this once per suite, before it has an event loop."""
        # Keeps Avocado from starting `avocado-runner-avocado-instrumented capabilities` to ask what
        # we know: the zygote runs this kind. A name in this registry is never executed by us.
        RUNNERS_REGISTRY_STANDALONE_EXECUTABLE.setdefault("avocado-instrumented", ["cprtest.job.keeper"])
        self._zygote, self._zygote_pid = zygote.start()
        return True

    async def spawn_task(self, runtime_task: Any) -> bool:
        """Have the zygote fork a keeper for the task."""
        self._listen()
        output_dir = Path(self.task_output_dir(runtime_task))
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "debug.log").touch()
        arguments = runtime_task.task.get_command_args()
        self._number += 1
        ended = asyncio.get_running_loop().create_future()
        runtime_task.spawner_handle = (self._number, ended)
        self._running[self._number] = (ended, arguments)
        soft = self.config["runner.task.interval.from_soft_to_hard_termination"]
        self._send(
            op="spawn",
            task=self._number,
            arguments=arguments,
            output_dir=str(output_dir.absolute()),
            soft=soft,
        )
        return True

    @staticmethod
    def is_task_alive(runtime_task: Any) -> bool:
        """Whether the task's keeper has not ended yet."""
        return runtime_task.spawner_handle is not None and not runtime_task.spawner_handle[1].done()

    async def wait_task(self, runtime_task: Any) -> None:
        """Wait for the end of the task's keeper. Shielded: Avocado cancels this when the time is over."""
        await asyncio.shield(runtime_task.spawner_handle[1])

    async def terminate_task(self, runtime_task: Any) -> bool:
        """Stop the task: its tearDown first, then SIGKILL for all that is left; whether it has ended."""
        if runtime_task.spawner_handle is None:
            return True
        number, ended = runtime_task.spawner_handle
        soft = self.config["runner.task.interval.from_soft_to_hard_termination"]
        self._send(op="stop", task=number, reason=self._why(runtime_task))
        if not await _within(ended, soft + _CLEANING):
            self._send(op="kill", task=number)
            await _within(ended, _CLEANING)
        if ended.done():
            await _until_heard(str(runtime_task.task.identifier))
        return bool(ended.done())

    @staticmethod
    async def check_task_requirements(runtime_task: Any) -> bool:
        """Whether the kind of task can be run at all."""
        return runtime_task.task.runnable.pick_runner_class() is not None

    # Avocado caches requirements (packages, assets) that tests declare. Ours declare none to Avocado.

    @staticmethod
    async def is_requirement_in_cache(runtime_task: Any) -> bool:  # noqa: ARG004
        """No."""
        return False

    @staticmethod
    async def save_requirement_in_cache(runtime_task: Any) -> None:
        """Nothing is cached."""

    @staticmethod
    async def update_requirement_cache(runtime_task: Any, result: str) -> None:
        """Nothing is cached."""

    def _why(self, runtime_task: Any) -> str:
        if runtime_task.status is RuntimeTaskStatus.TIMEOUT:
            limit = self.config.get("task.timeout.running")
            return f"it had not ended after {limit} s" if limit else "the job's time is over"
        return "by the user"

    def _send(self, **order: Any) -> None:
        if self._zygote is None:
            self._zygote_died()
            return
        try:
            self._zygote.sendall(json.dumps(order).encode() + b"\n")
        except OSError:
            self._zygote_died()

    def _listen(self) -> None:
        """Hear the zygote in the event loop, which does not exist yet when the zygote is started."""
        if self._zygote is not None:
            asyncio.get_running_loop().add_reader(self._zygote, self._hear)

    def _hear(self) -> None:
        assert self._zygote is not None
        try:
            data = self._zygote.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._zygote_died()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            ended, _ = self._running.pop(json.loads(line)["ended"])
            if not ended.done():
                ended.set_result(None)

    def _zygote_died(self) -> None:
        """Make every test that runs, or should start now, an ERROR that says so."""
        if self._zygote is not None:
            asyncio.get_running_loop().remove_reader(self._zygote)
            self._zygote.close()
            self._zygote = None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._zygote_pid, os.WNOHANG)
        running, self._running = self._running, {}
        for ended, arguments in running.values():
            report_death(
                arguments,
                f"The process that tests are forked from (zygote, pid {self._zygote_pid}) died; the test was "
                "stopped or could not be started. Look into the kernel's log for the out-of-memory killer.",
            )
            if not ended.done():
                ended.set_result(None)

    def close(self) -> None:
        """Let the zygote go. Also happens by itself when the job's process ends."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


async def _within(ended: asyncio.Future[None], limit: float) -> bool:
    done, _ = await asyncio.wait({ended}, timeout=limit)
    return bool(done)


async def _until_heard(identifier: str) -> None:
    """Wait until the job has taken note of the result that the keeper sent before it ended.

    Otherwise Avocado, seeing none yet, invents a second one, and the test is counted twice.
    """
    end = asyncio.get_running_loop().time() + _HEARD_LIMIT
    while identifier not in journal.ended and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)
