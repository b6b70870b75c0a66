# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes of set-up: they end when set-up is interrupted or killed."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cprtest.errors import CprError

_running: set[subprocess.Popen[str]] = set()
_guard = threading.Lock()
_stopping = threading.Event()


def stop_all() -> None:
    """End every running child and let none start any more; threads waiting for one get a CprError."""
    with _guard:
        _stopping.set()
        for process in _running:
            process.terminate()


@contextmanager
def started(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    *,
    finish: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Start a child with standard output and error in one pipe; it does not outlive the block.

    It gets SIGTERM when we are interrupted or killed. finish: it does not, the block waits for it instead.
    """
    argv = list(map(str, command))
    if not finish:
        # the kernel sends it even when we die of SIGKILL (prctl(2), PR_SET_PDEATHSIG)
        argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    with _guard:
        if _stopping.is_set():
            raise CprError("set-up was interrupted; run it again to go on.")
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=finish,  # Ctrl-C reaches a terminal's whole process group
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if not finish:
            _running.add(process)
    try:
        yield process
    finally:
        if process.poll() is None and not finish:
            process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
        with _guard:
            _running.discard(process)


def run_logged(
    command: Sequence[str | Path],
    log: Path,
    what: str,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a command, append what it prints to `log`; `on_line` sees each line.

    Raises CprError naming `what` failed and the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    full = False
    with log.open("a", buffering=1, encoding="utf-8") as file, started(command, environment, cwd) as process:
        print(f"$ {' '.join(map(str, command))}", file=file)
        for line in process.stdout or ():
            file.write(line)
            full = full or "No space left on device" in line
            on_line(line)
        code = process.wait()
    if full:
        raise CprError(f"{what} failed: the disk is full. Free some space and run it again; log: {log}")
    if code:
        raise CprError(f"{what} failed with exit status {code}; what it said is in {log}")
