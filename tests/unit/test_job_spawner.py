# SPDX-License-Identifier: GPL-2.0-or-later
"""The fork spawner with real Avocado jobs: tests that are killed, hang, or leave something behind."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cprtest import paths
from cprtest.limits import wait_until

AVOCADO = Path(sys.prefix) / "bin" / "avocado"

# A shell that starts pytest in the background makes it, and what it starts, ignore SIGINT.
HEARS_INTERRUPTS = ("env", "--default-signal=INT")

TESTS = """
import os, signal, subprocess, time
from avocado import Test

def leave(seconds):
    subprocess.Popen(["sleep", seconds], start_new_session=True)

class Case(Test):
    def test_pass(self): pass
    def test_fail(self): self.fail("it is broken")
    def test_cancel(self): self.cancel("kvm: there is none.")
    def test_environment(self):
        assert "CPRTEST_RUN" not in os.environ
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    def test_killed(self):
        leave(MARK)
        os.kill(os.getpid(), signal.SIGKILL)
    def test_crash(self): os.kill(os.getpid(), signal.SIGSEGV)
    def test_exits(self): os._exit(3)
    def test_leaves(self): leave(MARK)
    def test_fails_and_leaves(self):
        leave(MARK)
        self.fail("it is broken")
    def test_keeper_killed(self):
        leave(MARK)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    def test_hangs(self):
        leave(MARK)
        time.sleep(60)

class DeafCase(Test):
    def test_hangs(self): time.sleep(60)
    def tearDown(self): time.sleep(60)
"""


class Job:
    """Avocado run in a directory of its own with the project's configuration, but short limits."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Names the processes that tests leave behind: sleep with this many seconds.
        self.mark = f"{os.getpid()}{time.monotonic_ns() % 10**6:06}"
        (directory / "case.py").write_text(TESTS.replace("MARK", f'"{self.mark}"'))
        config = (paths.CHECKOUT / "avocado.cfg").read_text()
        config = config.replace("running = 900", "running = 3")
        config = config.replace("hard_termination = 30", "hard_termination = 1")
        (directory / "avocado.cfg").write_text(config)

    def start(self, *names: str) -> subprocess.Popen[str]:
        """Start the job; its output is piped."""
        return subprocess.Popen(
            [
                *HEARS_INTERRUPTS,
                AVOCADO,
                "--config",
                "avocado.cfg",
                "run",
                *(f"case.py:^{name}$" for name in names),
            ],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str) -> dict[str, Any]:
        """Run one test; what Avocado reports of it."""
        process = self.start(name)
        output, _ = process.communicate(timeout=60)
        found = list(self.directory.glob("results/avocado/jobs/job-*/results.json"))
        assert found, output
        report = json.loads(found[0].read_text())
        assert report["total"] == len(report["tests"]) == 1
        counted = ("pass", "errors", "failures", "skip", "cancel", "warn", "interrupt")
        assert sum(report[key] for key in counted) == 1, "a test was counted twice"
        test: dict[str, Any] = report["tests"][0]
        return test

    def left(self) -> list[str]:
        """Processes that carry the mark."""
        return _sleepers(self.mark)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("Case.test_pass", "PASS", ""),
        ("Case.test_environment", "PASS", ""),
        ("Case.test_fail", "FAIL", "it is broken"),
        ("Case.test_cancel", "CANCEL", "kvm: there is none."),
        ("Case.test_killed", "ERROR", "killed by signal 9 (SIGKILL)"),
        ("Case.test_crash", "ERROR", "killed by signal 11 (SIGSEGV)"),
        ("Case.test_exits", "ERROR", "exit status 3"),
        ("Case.test_leaves", "ERROR", "left behind sleep"),
        ("Case.test_fails_and_leaves", "FAIL", "it is broken The test left behind sleep"),
        ("Case.test_keeper_killed", "ERROR", "keeper of the test was killed by signal 9"),
        ("Case.test_hangs", "INTERRUPTED", "it had not ended after 3 s"),
        ("DeafCase.test_hangs", "INTERRUPTED", "did not end when asked to and was killed"),
    ],
)
def test_every_end_is_reported_once_and_leaves_nothing(job: Job, name: str, status: str, reason: str) -> None:
    test = job.run(name)
    assert test["status"] == status
    assert reason in (test["fail_reason"] or "")
    assert not job.left()


def test_a_dead_zygote_is_an_error_and_not_silence(job: Job) -> None:
    process = job.start("Case.test_hangs", "Case.test_pass")
    wait_until("the sleeping process to run", job.left, 30)
    zygote = _children(process.pid)
    assert len(zygote) == 1
    os.kill(zygote[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert output.count("ERROR: The process that tests are forked from (zygote") == 2, output
    wait_until("the sleeping process to end", lambda: not job.left(), 30)


def test_a_killed_job_takes_its_tests_with_it(job: Job) -> None:
    process = job.start("Case.test_hangs")
    wait_until("the sleeping process to run", job.left, 30)
    process.kill()
    process.communicate(timeout=60)
    wait_until("the sleeping process to end", lambda: not job.left(), 30)


def test_interrupt_ends_the_test_and_says_so(job: Job) -> None:
    process = job.start("Case.test_hangs", "Case.test_pass")
    wait_until("the sleeping process to run", job.left, 30)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "INTERRUPTED: Test interrupted: by the user" in output
    assert process.returncode != 0
    assert not job.left()


def test_overhead_per_test_is_below_a_second(job: Job) -> None:
    tests = "".join(f"    def test_{n}(self): pass\n" for n in range(10))
    (job.directory / "case.py").write_text(f"from avocado import Test\nclass Many(Test):\n{tests}")
    process = job.start("Many.*")
    process.communicate(timeout=60)
    report = json.loads(next(job.directory.glob("results/avocado/jobs/job-*/results.json")).read_text())
    starts = [test["actual_time_start"] for test in report["tests"]]
    between = sorted(b - a for a, b in itertools.pairwise(starts))
    assert between[len(between) // 2] < 1.0


def _sleepers(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", mark.encode()]:
            found.append(path.parent.name)
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
