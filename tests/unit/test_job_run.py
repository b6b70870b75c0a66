# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/run behind set-up, with real Avocado jobs in a small checkout of its own.

Its scripts/lab is a stand-in that runs the command on this host, or dies: what is tested is how the
run deals with lanes, not the lab.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pages import unpacked

from cprtest import paths
from cprtest.limits import wait_until
from cprtest.report import machines

# A shell that starts pytest in the background makes it, and what it starts, ignore SIGINT.
HEARS_INTERRUPTS = ("env", "--default-signal=INT")

# In a job's journal. Avocado hears of a test's start a moment after the test has begun.
LONG_BEGAN = '"start", "name": "tests/functional/tiny.py:Slow.test_b'

TESTS = '''
import os, subprocess, time
from avocado import Test

class Tiny(Test):
    """Tiny tests.

    :avocado: tags=smoke
    """
    def test_pass(self):
        """It passes."""
    def test_needs_lab(self):
        """It needs the lab."""
        if os.environ.get("CPRTEST_LANE") != "lab":
            self.cancel("vhost-net: it is not here.")
    def test_needs_moon(self):
        self.cancel("moon: there is none.")

class Bad(Test):
    """:avocado: tags=soak"""
    def test_fail(self): self.fail("it is broken")

class Nothing(Test):
    """:avocado: tags=downtime"""
    def test_cancel(self): self.cancel("moon: there is none.")

class Slow(Test):
    """:avocado: tags=matrix"""
    def test_a_short(self): pass
    def test_b_long(self):
        subprocess.Popen(["sleep", "MARK"])
        time.sleep(60)
    def test_c_later(self): pass
'''

LAB = """#!/bin/sh
[ "$1 $2 $4" = "run --writable --" ] && [ -d "$3" ] || exit 99
shift 4
export CPRTEST_LANE=lab
exec "$@"
"""


class Checkout:
    """A copy of the library with tests of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = f"7{os.getpid()}{time.monotonic_ns() % 10**6:06}"
        shutil.copytree(
            paths.CHECKOUT / "cprtest", root / "cprtest", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(paths.CHECKOUT / "avocado.cfg", root)
        self.write("tests/functional/tiny.py", TESTS.replace("MARK", self.mark))
        self.write("scripts/lab", LAB)
        (root / ".venv").symlink_to(sys.prefix)
        self.results = root / "out"

    def write(self, name: str, text: str) -> None:
        """Write an executable file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a run; its output is piped."""
        cache = self.root / "cache"
        return subprocess.Popen(
            [
                *HEARS_INTERRUPTS,
                sys.executable,
                "-m",
                "cprtest.job.run",
                *words,
                *(() if "--labs" in words else ("--labs", "1")),
                *(() if "--jobs" in words else ("--jobs", "1")),
                "--results",
                str(self.results),
            ],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "XDG_CACHE_HOME": str(cache)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run to the end: exit status and output."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=100)
        return process.returncode, output

    def statuses(self) -> dict[str, str]:
        """Status by the name of the test's method."""
        return {test["name"].rpartition(".")[2]: test["status"] for test in self.report()["tests"]}

    def report(self) -> dict[str, Any]:
        """results.json."""
        data: dict[str, Any] = json.loads((self.results / "results.json").read_text())
        return data

    def noted(self, text: str) -> bool:
        """Whether a job's journal has `text`."""
        return any(text in path.read_text() for path in self.results.glob("*/job-*/journal.jsonl"))

    def left(self) -> bool:
        """Whether the process that the long test starts is there."""
        lines = (_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
        return any(line == f"sleep\0{self.mark}\0".encode() for line in lines)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_what_cancels_here_runs_in_the_lab(checkout: Checkout) -> None:
    status, output = checkout.run("smoke")
    assert status == 0, output
    report = checkout.results / "report" / "index.html"
    assert output.splitlines()[-1] == (
        f"RESULTS PASS 2 FAIL 0 ERROR 0 WARN 0 CANCEL 1 SKIP 0 INTERRUPT 0 report: {report}"
    )
    tests = {test["name"]: test for test in checkout.report()["tests"]}
    assert tests["tests/functional/tiny.py:Tiny.test_pass"]["lane"] == "here"
    assert tests["tests/functional/tiny.py:Tiny.test_needs_lab"]["lane"] == "lab"
    assert tests["tests/functional/tiny.py:Tiny.test_needs_lab"]["promise"] == "It needs the lab."
    moon = tests["tests/functional/tiny.py:Tiny.test_needs_moon"]
    assert moon["reasons"] == {"here": "moon: there is none.", "lab": "moon: there is none."}
    skipped = ET.parse(checkout.results / "results.xml").findall(".//skipped")
    assert [element.get("message") for element in skipped] == [moon["reason"]]
    assert "It needs the lab." in str(unpacked(report.read_text(), "index"))


def test_only_the_variants_that_cancel_run_in_the_lab(checkout: Checkout) -> None:
    """Each with its own parameters, and with those of the command line."""
    checkout.write(
        "tests/functional/tiny.py",
        "import os\nfrom avocado import Test\n"
        'class Tiny(Test):\n    """:avocado: tags=smoke"""\n    def test(self):\n'
        "        if self.params.get('where') == 'lab' and 'CPRTEST_LANE' not in os.environ:\n"
        "            self.cancel('lab: it is not here.')\n"
        "        self.assertEqual(self.params.get('where') or 'x', self.params.get('again'))\n",
    )
    checkout.write("tests/vars/smoke.csv", "where,again\nhere,here\nlab,lab\nlab,other\n")
    status, output = checkout.run("smoke", "--jobs", "2")
    assert status == 1, output
    assert "2 of 3 tests run in the lab." in output
    tests = checkout.report()["tests"]
    assert [(test["name"].partition(";")[2], test["lane"], test["status"]) for test in tests] == [
        ("here-here", "here", "PASS"),
        ("lab-lab", "lab", "PASS"),
        ("lab-other", "lab", "FAIL"),
    ]


def test_a_failure_is_status_1_and_listed(checkout: Checkout) -> None:
    status, output = checkout.run("soak", "--lane", "here")
    assert status == 1
    assert "FAIL      tests/functional/tiny.py:Bad.test_fail (here): it is broken" in output


def test_nothing_but_cancelled_tests_is_no_success(checkout: Checkout) -> None:
    status, output = checkout.run("downtime", "--lane", "here")
    assert status == 1
    assert "PASS 0" in output.splitlines()[-1]
    assert checkout.statuses() == {"test_cancel": "CANCEL"}


def test_an_empty_suite_is_a_usage_error(checkout: Checkout) -> None:
    checkout.write("tests/functional/tiny.py", TESTS.replace("tags=downtime", "tags=other"))
    status, output = checkout.run("downtime")
    assert status == 2
    assert "Suite downtime is empty" in output
    assert "suites are smoke" in output


def test_labs_side_by_side_share_the_tests(checkout: Checkout) -> None:
    status, output = checkout.run("--lane", "lab", "--labs", "2")
    assert status == 0
    assert "3 of 3 tests run in 2 labs side by side." in output
    lines = [line.partition(" | ") for line in output.splitlines() if re.search(r"test_\w+:  PASS", line)]
    assert sorted((lab, line.split()[1].rstrip(":").rpartition(".")[2]) for lab, _, line in lines) == [
        ("lab-1", "test_pass"),
        ("lab-2", "test_needs_lab"),
    ]
    assert checkout.statuses() == {"test_pass": "PASS", "test_needs_lab": "PASS", "test_needs_moon": "CANCEL"}
    assert [test["lane"] for test in checkout.report()["tests"]] == ["lab"] * 3
    assert [lane["name"] for lane in checkout.report()["lanes"]] == ["lab", "lab"]


def test_an_interrupt_ends_labs_side_by_side_with_one_report(checkout: Checkout) -> None:
    process = checkout.start("matrix", "--lane", "lab", "--labs", "2")
    wait_until("the long test to run", lambda: checkout.left() and checkout.noted(LONG_BEGAN), 30)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.count("Lane lab was interrupted by the user.") == 1
    assert checkout.statuses()["test_b_long"] == "INTERRUPT"


def test_a_lab_that_does_not_start_makes_its_tests_errors(checkout: Checkout) -> None:
    checkout.write("scripts/lab", "#!/bin/sh\necho 'the lab is broken' >&2\nexit 7\n")
    status, output = checkout.run("smoke")
    assert status == 1, output
    assert checkout.statuses() == {
        "test_pass": "PASS",
        "test_needs_lab": "INTERRUPT",
        "test_needs_moon": "INTERRUPT",
    }
    assert "ended with status 7" in checkout.report()["tests"][1]["reason"]


def test_a_lab_that_dies_midway_is_no_success(checkout: Checkout) -> None:
    process = checkout.start("matrix", "--lane", "lab")
    wait_until("the long test to run", lambda: checkout.left() and checkout.noted(LONG_BEGAN), 30)
    avocado = _children(process.pid)
    assert len(avocado) == 1
    os.kill(avocado[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert checkout.statuses() == {
        "test_a_short": "PASS",
        "test_b_long": "ERROR",
        "test_c_later": "INTERRUPT",
    }
    assert "It was running when the Avocado job of lane lab was killed by signal 9" in output
    wait_until("the sleeping process to end", lambda: not checkout.left(), 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_order_with_a_report(checkout: Checkout, number: signal.Signals) -> None:
    process = checkout.start("matrix", "--lane", "here")
    wait_until("the sleeping process to run", checkout.left, 30)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert checkout.statuses() == {
        "test_a_short": "PASS",
        "test_b_long": "INTERRUPT",
        "test_c_later": "INTERRUPT",
    }
    assert output.splitlines()[-1].startswith(
        "RESULTS PASS 1 FAIL 0 ERROR 0 WARN 0 CANCEL 0 SKIP 0 INTERRUPT 2"
    )
    assert (checkout.results / "report" / "index.html").exists()
    assert not checkout.left()


def test_a_killed_run_takes_its_tests_with_it(checkout: Checkout) -> None:
    process = checkout.start("matrix", "--lane", "here")
    wait_until("the sleeping process to run", checkout.left, 30)
    process.kill()
    process.communicate(timeout=60)
    wait_until("the sleeping process to end", lambda: not checkout.left(), 30)
    wait_until(
        "the job to end", lambda: checkout.noted('"end", "name": "tests/functional/tiny.py:Slow.test_b'), 30
    )
    # What it wrote when it began, and the journal of its job, tell what became of it.
    assert set(checkout.statuses().values()) == {"INTERRUPT"}
    part = machines.read(checkout.results)
    assert part.results is not None
    statuses = [test.status for test in part.results.tests]
    assert statuses == ["PASS", "INTERRUPT", "INTERRUPT"]
    merged = machines.together([part], checkout.root, ())
    assert merged.exit_status() == 1
    assert "vanished before its run ended; 1 of 3 tests had a result by then." in merged.problems[0]


def test_a_report_that_cannot_be_written_is_no_success(checkout: Checkout) -> None:
    template = checkout.root / "cprtest" / "report" / "template.html.j2"
    template.write_text("{{ nothing.of_the() }}")
    status, output = checkout.run("smoke")
    assert status == 1
    assert "Problem: report/index.html could not be written" in output
    assert checkout.report()["exit_status"] == 1


def test_an_earlier_problem_is_part_of_the_run(checkout: Checkout) -> None:
    status, output = checkout.run("smoke", "--problem", "mypy failed.")
    assert status == 1
    assert output.splitlines()[-2] == "Problem: mypy failed."
    assert output.splitlines()[-1].startswith("RESULTS PASS 2 FAIL 0")
    assert "mypy failed." in (checkout.results / "results.xml").read_text()


def test_two_runs_at_once_do_not_meet(checkout: Checkout) -> None:
    first = checkout.start("smoke")
    checkout.results = checkout.root / "out2"
    second = checkout.start("smoke")
    for process in (first, second):
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
