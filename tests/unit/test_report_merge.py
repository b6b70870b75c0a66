# SPDX-License-Identifier: GPL-2.0-or-later
"""Merging: nothing that did not finish ever becomes a success."""

import json
from pathlib import Path
from typing import Any

import pytest

from cprtest.report import merge
from cprtest.report.evidence import promise_of
from cprtest.report.merge import Ended
from cprtest.report.model import Lane, Result, Results, from_json

A, B, C = "t.py:T.a", "t.py:T.b", "t.py:T.c"


def journal(
    root: Path, lane: str, plan: list[str], *entries: dict[str, Any], tail: str = ""
) -> merge.Journal:
    """The journal of a job of `lane`, written and read back."""
    job = root / lane / "job-1"
    job.mkdir(parents=True)
    tests = [{"name": name, "tags": ["smoke"]} for name in plan]
    lines = [{"event": "plan", "lane": lane, "patience": 2.5, "tests": tests}, *entries]
    (job / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    found = merge.read_journal(root / lane)
    assert found is not None
    return found


def start(name: str) -> dict[str, Any]:
    return {"event": "start", "name": name}


def end(name: str, status: str, reason: str | None = None) -> dict[str, Any]:
    evidence = {"duration": 1.5, "directory": f"test-results/{name[-1]}"}
    return {"event": "end", "name": name, "status": status, "reason": reason, **evidence}


def results(tests: list[Result], *problems: str) -> Results:
    lane = Lane("here", "here", 0, False, 1.0, 2.0)
    return Results(
        "smoke", ("scripts/run",), "2026-11-22T19:00:00+00:00", 2.0, {}, {}, (lane,), tuple(tests), problems
    )


def result(status: str, name: str = A, lane: str = "here", reason: str = "") -> Result:
    return Result(name, status, lane, reason=reason, reasons={lane: reason} if reason else {})


def test_all_that_ended_is_taken_as_it_ended(tmp_path: Path) -> None:
    found = journal(tmp_path, "here", [A, B], start(A), end(A, "PASS"), start(B), end(B, "FAIL", "broken"))
    a, b = merge.lane_results(Ended("here", 1, False), found, [], tmp_path)
    assert (a.status, a.duration, a.directory, a.tags) == (
        "PASS",
        1.5,
        "here/job-1/test-results/a",
        ("smoke",),
    )
    assert (b.status, b.reason, b.reasons) == ("FAIL", "broken", {"here": "broken"})
    assert found.patience == 2.5


def test_a_job_that_died_shows_what_it_did_not_finish(tmp_path: Path) -> None:
    found = journal(
        tmp_path, "lab", [A, B, C], start(A), end(A, "PASS"), start(B), tail='{"event": "end", "na'
    )
    ended = merge.lane_results(Ended("lab", -9, False), found, [], tmp_path)
    assert [test.status for test in ended] == ["PASS", "ERROR", "INTERRUPT"]
    assert "running when the Avocado job of lane lab was killed by signal 9" in ended[1].reason
    assert "not begun" in ended[2].reason


def test_what_the_user_interrupted_is_no_error(tmp_path: Path) -> None:
    found = journal(tmp_path, "lab", [A, B], start(A))
    ended = merge.lane_results(Ended("lab", 8, True), found, [], tmp_path)
    assert [(test.status, test.reason) for test in ended] == [("INTERRUPT", "Interrupted by the user.")] * 2


def test_a_job_that_never_began_has_no_success(tmp_path: Path) -> None:
    assert merge.read_journal(tmp_path / "lab") is None
    ended = merge.lane_results(Ended("lab", 7, False), None, [A, B], tmp_path)
    assert [test.status for test in ended] == ["INTERRUPT", "INTERRUPT"]
    assert "ended with status 7" in ended[0].reason


def test_an_unknown_status_is_an_error(tmp_path: Path) -> None:
    found = journal(tmp_path, "here", [A], end(A, "MAYBE"))
    assert merge.lane_results(Ended("here", 0, False), found, [], tmp_path)[0].status == "ERROR"


def test_a_known_defect_is_named(tmp_path: Path) -> None:
    found = journal(tmp_path, "here", [A], end(A, "WARN", "there were warnings"))
    directory = tmp_path / "here/job-1/test-results/a/transfer-2"
    directory.mkdir(parents=True)
    (directory / "outcome.json").write_text('{"known_defect": "D-999"}')
    test = merge.lane_results(Ended("here", 0, False), found, [], tmp_path)[0]
    assert (test.defect, test.reason) == ("D-999", "known defect D-999")


@pytest.mark.parametrize("status", ["PASS", "FAIL", "ERROR", "WARN", "INTERRUPT", "SKIP"])
def test_the_lab_replaces_a_cancel_and_nothing_else(status: str) -> None:
    here, lab = result("CANCEL", reason="no kvm"), result(status, lane="lab", reason="so it is")
    merged = merge.merged([here], [lab])[0]
    assert (merged.status, merged.lane, merged.reason) == (status, "lab", "so it is")
    assert merged.reasons == {"here": "no kvm", "lab": "so it is"}
    assert merge.merged([result(status)], [result("PASS", lane="lab")])[0].lane == "here"


def test_cancelled_in_both_lanes_keeps_both_reasons() -> None:
    merged = merge.merged(
        [result("CANCEL", reason="no kvm.")], [result("CANCEL", lane="lab", reason="no igb.")]
    )
    assert merged[0].reason == "here: no kvm. lab: no igb."


def test_a_lane_that_failed_without_a_failing_test_is_a_problem() -> None:
    passed = [result("PASS")]
    assert merge.problems(Ended("here", 0, False), passed) == []
    assert "No test failed" in merge.problems(Ended("here", 4, False), passed)[0]
    assert merge.problems(Ended("here", 1, False), [result("FAIL")]) == []
    assert "interrupted" in merge.problems(Ended("here", 0, True), passed)[0]
    died = Ended("lab", 125, False, "The lab died before its init was up.")
    assert "died before its init" in merge.problems(died, [result("INTERRUPT")])[0]


@pytest.mark.parametrize(
    ("statuses", "problems", "status"),
    [
        (["PASS"], [], 0),
        (["WARN", "CANCEL", "SKIP"], [], 0),
        (["PASS", "FAIL"], [], 1),
        (["PASS", "ERROR"], [], 1),
        (["PASS", "INTERRUPT"], [], 1),
        (["CANCEL", "SKIP"], [], 1),
        ([], [], 1),
        (["PASS"], ["the report could not be written"], 1),
    ],
)
def test_exit_status(statuses: list[str], problems: list[str], status: int) -> None:
    assert results([result(s) for s in statuses], *problems).exit_status() == status


def test_summary_line() -> None:
    tests = [result(s) for s in ("PASS", "PASS", "WARN", "CANCEL", "INTERRUPT")]
    assert results(tests).summary("/r/report/index.html") == (
        "RESULTS PASS 2 FAIL 0 ERROR 0 WARN 1 CANCEL 1 SKIP 0 INTERRUPT 1 report: /r/report/index.html"
    )


def test_results_json_round_trip() -> None:
    before = results([result("CANCEL", reason="no kvm")], "a problem")
    assert from_json(json.loads(json.dumps(before.as_json()))) == before


def test_promise_is_the_first_line_of_the_docstring(tmp_path: Path) -> None:
    file = tmp_path / "t.py"
    file.write_text(
        'class T:\n  """All."""\n  def a(self):\n    """One.\n\n    more"""\n  def b(self): pass\n'
    )
    assert promise_of(f"{file}:T.a;variant-1") == "One."
    assert promise_of(f"{file}:T.b") == "All."
    assert promise_of(f"{file}:Other.b") == ""
    assert promise_of("nowhere.py:T.a") == ""
