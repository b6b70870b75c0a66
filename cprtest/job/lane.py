# SPDX-License-Identifier: GPL-2.0-or-later
"""One lane of a run: one Avocado job, on this host or in a lab, as a process of its own."""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError
from cprtest.job import descendants
from cprtest.job.prctl import set_parent_death_signal
from cprtest.report.merge import Ended

CONFIG = paths.CHECKOUT / "avocado.cfg"

INTERRUPT_LIMIT = 120.0
"""Seconds from an interrupt to the end of the job: for the tearDown of tests, and for the lab."""

KILL_LIMIT = 20.0
"""Seconds from SIGKILL to the end of a process."""

_QUIET = "ignore:pkg_resources is deprecated:UserWarning"


@dataclass(frozen=True)
class Job:
    """The Avocado job of a lane.

    references: files or names of tests, relative to the checkout. tags: what filters them. directory:
    where Avocado makes its own directory for the job. parameters: Avocado's, for all tests. extra:
    arguments of the user's for `avocado run`.
    """

    lane: str
    references: list[str]
    tags: tuple[str, ...]
    directory: Path
    parameters: dict[str, Path]
    extra: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Avocado, started with the project's own configuration, in the lab if need be.

        Avocado ignores a --config that is not there, and refuses -p together with a variants file (-m);
        with one, the parameters are injected into the variants instead.
        """
        if not CONFIG.is_file():
            raise CprError(f"{CONFIG} is missing; get it back from version control.")
        words = [str(paths.VENV / "bin" / "avocado"), "--config", str(CONFIG), "run", *self.references]
        for tag in self.tags:
            words += ["-t", tag]
        with_variants = any(word == "-m" or word.startswith("--mux-yaml") for word in self.extra)
        for name, value in self.parameters.items():
            words += ["--mux-inject", f"/run:{name}:{value}"] if with_variants else ["-p", f"{name}={value}"]
        words += ["--job-results-dir", str(self.directory), *self.extra]
        inside = ["env", f"--chdir={paths.CHECKOUT}", f"PYTHONWARNINGS={_QUIET}", *words]
        lab = [str(paths.CHECKOUT / "scripts" / "lab"), "run", "--writable", str(self.directory), "--"]
        return inside if self.lane == "here" else [*lab, *inside]


def run(job: Job) -> Ended:
    """Run the job; its output is ours. An interrupt is passed on once; a second one kills.

    The job has a process group of its own, so that Ctrl-C does not reach it twice, and is interrupted
    by the kernel when this process is killed. For a subreaper only. Raises CprError: it cannot be started.
    """
    words = job.command()
    job.directory.mkdir(parents=True, exist_ok=True)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_before_exec,  # noqa: PLW1509 - there are no threads
        )
    except OSError as error:
        raise CprError(f"Lane {job.lane} cannot be started: {words[0]}: {error.strerror}.") from None
    try:
        ended = Ended(job.lane, process.wait(), interrupted=False)
    except KeyboardInterrupt:
        print(f"\nInterrupted: stopping the tests of lane {job.lane} (again: kill them).", flush=True)
        ended = Ended(job.lane, _interrupt(process), interrupted=True)
    _settle()
    return ended


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


def _interrupt(process: subprocess.Popen[bytes]) -> int:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(INTERRUPT_LIMIT)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()
