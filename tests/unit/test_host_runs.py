# SPDX-License-Identifier: GPL-2.0-or-later
"""Leftovers: what a killed run left is removed, and nothing else. Real processes, really killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cprtest.errors import CprError
from cprtest.host import journal, processes
from cprtest.host.runs import Run, clean_leftovers, runs_dir
from cprtest.limits import wait_until
from cprtest.paths import CHECKOUT

# A run with everything that could be left: a child, a daemon made by two forks and without exec, a
# process in network and user namespaces of its own, a scratch directory with a socket.
OWNER = """
import os, signal, socket, subprocess, sys, time
from cprtest.host.runs import Run
run = Run.start()
child = subprocess.Popen(["sleep", "600"])
reading, writing = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(writing, b"%d" % os.getpid())
        signal.pause()
    os._exit(0)
daemon = int(os.read(reading, 20))
holder = "none"
if "netns" in sys.argv:
    holder = subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "600"]).pid
scratch = run.scratch()
socket.socket(socket.AF_UNIX).bind(str(scratch / "qmp"))
print(run.ident, scratch, child.pid, daemon, holder, flush=True)
signal.pause()
"""

JOINER = """
from cprtest.host.runs import Run
run = Run.start()
print(run.ident, run.scratch().exists(), run.close())
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python of our own, running `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )


@contextlib.contextmanager
def sleeper(env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, killed at the end whatever happens."""
    with subprocess.Popen(["sleep", "600"], env=env) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test's own, and no run that the tests themselves were started under."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(processes.MARK, raising=False)
    monkeypatch.delenv("CPRTEST_LANE", raising=False)
    monkeypatch.setattr(Run, "_current", None)


@pytest.fixture
def owner() -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[str]]]]:
    """Starts runs in processes of their own; kills the process group of each at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
        process = python(OWNER, *arguments)
        started.append(process)
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert len(words) == 5, "the run did not start"
        return process, words

    yield start
    for process in started:
        with process:
            process.kill()
    clean_leftovers()


def alive(pid: str) -> bool:
    """Whether the process still runs (a zombie does not)."""
    return processes.start_time(int(pid)) is not None


def can_make_user_namespaces() -> bool:
    return (
        subprocess.run(["unshare", "--user", "--net", "true"], capture_output=True, check=False).returncode
        == 0
    )


def test_next_start_removes_everything_of_a_killed_run_and_spares_others(
    owner: Callable[..., tuple[subprocess.Popen[str], list[str]]],
) -> None:
    netns = ["netns"] if can_make_user_namespaces() else []
    dead, (ident, scratch, *pids) = owner(*netns)
    _, (live_ident, live_scratch, *live_pids) = owner()
    with sleeper() as unrelated:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        pids = [pid for pid in pids if pid != "none"]
        assert all(alive(pid) for pid in pids), "the kill alone must not be what ends them"

        run = Run.start()

        assert not any(alive(pid) for pid in pids)
        assert not Path(scratch).exists()
        assert not (runs_dir() / f"{ident}.run").exists()
        assert len(run.cleaned) == len(pids) + 1 and all(ident in sentence for sentence in run.cleaned)
        assert alive(str(unrelated.pid))
        assert all(alive(pid) for pid in live_pids if pid != "none") and Path(live_scratch).exists()
        assert (runs_dir() / f"{live_ident}.run").exists()
        assert run.close() == []


def test_nothing_is_cleaned_while_the_owner_lives(
    owner: Callable[..., tuple[subprocess.Popen[str], list[str]]],
) -> None:
    _, (_, scratch, *pids) = owner()
    assert clean_leftovers() == []
    assert Path(scratch).exists() and alive(pids[0])


def test_two_starts_at_once_clean_once(owner: Callable[..., tuple[subprocess.Popen[str], list[str]]]) -> None:
    dead, (_, scratch, child, daemon, _) = owner()
    dead.kill()
    dead.wait()
    code = "from cprtest.host.runs import clean_leftovers; print(len(clean_leftovers()))"
    cleaners = [python(code) for _ in range(3)]
    assert sorted(int(c.communicate()[0]) for c in cleaners) == [0, 0, 3]
    assert not alive(child) and not alive(daemon) and not Path(scratch).exists()


def test_forked_child_does_not_keep_the_run_alive() -> None:
    run = Run.start()
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        recorded = wait_until("the child to be recorded", lambda: journal.read(run.path).processes, 5)
        assert recorded == [(pid, processes.start_time(pid))]
        assert run._lock is not None
        os.close(run._lock)  # what the kernel does when the owner is killed
        run._lock = None
        assert any(str(run.ident) in sentence for sentence in clean_leftovers())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    finally:
        run.close()
        os.environ.pop(processes.MARK, None)  # without its lock, it closed as one that had joined


def test_process_started_by_a_run_joins_it() -> None:
    with Run.start() as run, python(JOINER) as joiner:
        out, _ = joiner.communicate()
        assert out.split() == [run.ident, "True", "[]"]
        assert run.path.exists(), "the joiner must not end the run"
    assert not run.path.exists()
    assert processes.MARK not in os.environ


def test_process_of_a_dead_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.MARK, "1-0123456789ab")
    with pytest.raises(CprError, match="killed"):
        Run.start()


def test_owner_ends_what_its_tests_left() -> None:
    run = Run.start()
    with sleeper() as left:
        assert run.close() == [f"Killed process sleep, left at the end of run {run.ident}."]
        assert left.wait() == -signal.SIGKILL


def test_recycled_pid_is_spared() -> None:
    with sleeper(env={}) as other:
        started = processes.start_time(other.pid)
        assert started is not None
        path = runs_dir() / "1-0123456789ab.run"
        path.touch()
        journal.append(path, **journal.header())
        journal.append(path, process=other.pid, start=started - 1)
        assert clean_leftovers() == []
        assert alive(str(other.pid)) and not path.exists()


def test_journal_of_another_machine_and_torn_line_are_left_alone() -> None:
    path = runs_dir() / "1-0123456789ab.run"
    path.write_text('{"pid": 1, "command": [], "machine": "another", "boot": "x"}\n{"scratch": "/tm')
    assert clean_leftovers() == []
    assert path.exists()


def test_scratch_directory_leaves_room_for_a_socket_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with Run.start() as run:
        scratch = run.scratch()
        assert len(str(scratch)) <= 108 - 50
        assert scratch.stat().st_mode & 0o777 == 0o700
    assert not scratch.exists()
