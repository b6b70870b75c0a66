# SPDX-License-Identifier: GPL-2.0-or-later
"""One lane of a run: Avocado jobs on this host or in labs, each a process of its own."""

import configparser
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from cprtest import paths
from cprtest.errors import CprError
from cprtest.job import descendants
from cprtest.job.prctl import set_parent_death_signal
from cprtest.limits import KILL_LIMIT
from cprtest.report.merge import Ended

CONFIG = paths.CHECKOUT / "avocado.cfg"

INTERRUPT_LIMIT = 120.0
"""Seconds from an interrupt to the end of the job: for the tearDown of tests, and for the lab."""

PUMP_LIMIT = 5.0
"""Seconds from the end of a job to the end of its output, which processes that it left could hold open."""

_QUIET = "ignore:pkg_resources is deprecated:UserWarning"


@dataclass(frozen=True)
class Job:
    """An Avocado job of a lane.

    references: files or names of tests, relative to the checkout. tags: what filters them. directory:
    where Avocado makes its own directory for the job. parameters: Avocado's, for all tests. extra:
    arguments of the user's for `avocado run`. hours: how long a test may take, if not as in avocado.cfg.
    variants: Avocado's JSON file of them, which holds the parameters too. lab_devices: roles of the devices
    that a lab has; none: all.
    """

    lane: str
    references: list[str]
    tags: tuple[str, ...]
    directory: Path
    parameters: dict[str, str]
    extra: tuple[str, ...] = ()
    hours: float | None = None
    variants: Path | None = None
    lab_devices: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Avocado, started with the project's own configuration, in the lab if need be.

        Avocado ignores a --config that is not there.
        """
        if not CONFIG.is_file():
            raise CprError(f"{CONFIG} is missing; get it back from version control.")
        words = [
            str(paths.VENV / "bin" / "avocado"),
            "--config",
            str(self._config()),
            "run",
            *self.references,
        ]
        for tag in self.tags:
            words += ["-t", tag]
        if self.variants:
            words += ["--json-variants-load", str(self.variants)]
        else:
            words += [word for name, value in self.parameters.items() for word in ("-p", f"{name}={value}")]
        words += ["--job-results-dir", str(self.directory), *self.extra]
        return in_lane(self.lane, self.directory, words, self.lab_devices)

    def _config(self) -> Path:
        """The project's configuration; Avocado has no option for the time limit of a test."""
        if self.hours is None:
            return CONFIG
        config = configparser.ConfigParser(interpolation=None)
        config.read(CONFIG)
        config["task.timeout"]["running"] = str(round(3600 * self.hours))
        self.directory.mkdir(parents=True, exist_ok=True)
        changed = self.directory / CONFIG.name
        with changed.open("w") as file:
            config.write(file)
        return changed


def exactly(name: str) -> str:
    """A reference to one test: Avocado searches for what follows the colon as a regular expression."""
    file, _, test = name.partition(":")
    return f"{file}:^{re.escape(test)}$"


class Runnable(Protocol):
    """What `run` can run: a Job, or anything else that has a lane and a directory."""

    @property
    def lane(self) -> str:
        """here or lab."""

    @property
    def directory(self) -> Path:
        """Its own; the name is the prefix of its output where several run side by side."""

    def command(self) -> list[str]:
        """Program and arguments, the lab's included."""


def in_lane(lane: str, directory: Path, words: list[str], lab_devices: Sequence[str] = ()) -> list[str]:
    """The command that runs `words` from the checkout in a lane, where `directory` can be written."""
    inside = ["env", f"--chdir={paths.CHECKOUT}", f"PYTHONWARNINGS={_QUIET}", *words]
    lab = [str(paths.CHECKOUT / "scripts" / "lab"), "run", "--writable", str(directory)]
    chosen = ["--devices", ",".join(lab_devices)] if lab_devices else []
    return inside if lane == "here" else [*lab, *chosen, "--", *inside]


def run(jobs: Sequence[Runnable]) -> list[Ended]:
    """Run the jobs side by side. An interrupt is passed on once to each; a second one kills.

    The output of one job is ours; of several, it is printed line by line, with the job's directory as prefix.
    Each has a process group of its own, so that Ctrl-C does not reach it twice, and is interrupted by the
    kernel when this process is killed. For a subreaper only. Raises CprError: one cannot be started.
    """
    running: list[subprocess.Popen[bytes]] = []
    try:
        for job in jobs:
            running.append(_start(job, shared=len(jobs) > 1))
    except BaseException:
        for process in running:
            _kill(process)
        raise
    errors: dict[int, str] = {}
    pumps = [
        threading.Thread(target=_pump, args=(process.stdout, job.directory.name, n, errors), daemon=True)
        for n, (process, job) in enumerate(zip(running, jobs, strict=True))
        if process.stdout
    ]
    for pump in pumps:
        pump.start()
    try:
        interrupted = False
        statuses = [process.wait() for process in running]
    except KeyboardInterrupt:
        print(f"\nInterrupted: stopping the tests of lane {jobs[0].lane} (again: kill them).", flush=True)
        interrupted = True
        statuses = _interrupt(running)
    for pump in pumps:
        pump.join(PUMP_LIMIT)
    _settle()
    return [
        Ended(job.lane, status, interrupted, errors.get(index, ""))
        for index, (job, status) in enumerate(zip(jobs, statuses, strict=True))
    ]


def _start(job: Runnable, shared: bool) -> "subprocess.Popen[bytes]":
    words = job.command()
    job.directory.mkdir(parents=True, exist_ok=True)
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if shared else None,
            stderr=subprocess.STDOUT if shared else None,
            process_group=0,
            preexec_fn=_before_exec,  # noqa: PLW1509 - threads start after the last job
        )
    except OSError as error:
        raise CprError(f"Lane {job.lane} cannot be started: {words[0]}: {error.strerror}.") from None


def _pump(stream: IO[bytes], name: str, number: int, errors: dict[int, str]) -> None:
    """Print the lines of a job as they come, and note by its `number` the last in which it tells an error."""
    for raw in stream:
        line = raw.decode(errors="replace")
        sys.stdout.write(f"{name} | {line}")
        sys.stdout.flush()
        if line.startswith("error: "):
            errors[number] = line.removeprefix("error: ").strip()


def _before_exec() -> None:
    # A shell that starts us in the background makes us ignore SIGINT; the job must not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Its process group is not the terminal's; where `stty tostop` is set, its first line would stop it.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    set_parent_death_signal(signal.SIGINT)


def _settle() -> None:
    """Let what a killed job left end in order: its zygote stops the tests, and they clean up."""
    if left := descendants.below(os.getpid()):
        descendants.wait_for_end(left, INTERRUPT_LIMIT)
        descendants.kill_below(os.getpid(), KILL_LIMIT)


def _interrupt(running: Sequence["subprocess.Popen[bytes]"]) -> list[int]:
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
    until = time.monotonic() + INTERRUPT_LIMIT
    try:
        return [process.wait(max(0.0, until - time.monotonic())) for process in running]
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for process in running:
            _kill(process)
        return [process.wait() for process in running]


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
