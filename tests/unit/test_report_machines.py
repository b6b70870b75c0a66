# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of several machines, of which some vanish: the merged report tells the truth."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cprtest.report import cli, machines
from cprtest.report.model import Lane, Result, Results, from_json
from cprtest.report.write import write_json

A, B, C = "t.py:T.a", "t.py:T.b", "t.py:T.c"


def run(root: Path, host: str, *tests: Result, **fields: Any) -> Path:
    """The directory of a run on `host`."""
    lane = Lane("here", "here/job-1", 0, False, 1.0, 2.0)
    started = "2026-11-22T19:00:00+00:00"
    results = Results("smoke", ("scripts/run",), started, 2.0, {"name": host}, {}, (lane,), tests)
    root.mkdir(parents=True, exist_ok=True)
    write_json(dataclasses.replace(results, **fields), root)
    return root


def planned(name: str) -> Result:
    return Result(name, "INTERRUPT", "none", reason="The run ended before it began.")


def journal(root: Path, lane: str, plan: list[str], *entries: dict[str, Any]) -> None:
    job = root / lane / "job-1"
    job.mkdir(parents=True)
    tests = [{"name": name, "tags": []} for name in plan]
    lines = [{"event": "plan", "lane": lane.partition("-")[0], "patience": 2.5, "tests": tests}, *entries]
    (job / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def ended(name: str, status: str, reason: str = "") -> dict[str, Any]:
    return {
        "event": "end",
        "name": name,
        "status": status,
        "reason": reason,
        "duration": 1.0,
        "directory": "d",
    }


def statuses(results: Results) -> dict[tuple[str, str], str]:
    return {(test.host, test.name): test.status for test in results.tests}


def test_two_machines_are_one_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = run(tmp_path / "one", "alpha", Result(A, "PASS", "here", directory="here/x"))
    two = run(tmp_path / "two", "beta", Result(A, "CANCEL", "lab", reason="no igb"), Result(B, "WARN", "lab"))
    assert cli.main([str(one), str(two), "--output", str(tmp_path / "all")]) == 0
    results = from_json(json.loads((tmp_path / "all" / "results.json").read_text()))
    assert statuses(results) == {("alpha", A): "PASS", ("beta", A): "CANCEL", ("beta", B): "WARN"}
    assert results.tests[0].directory == "../one/here/x"
    assert [machine.name for machine in results.machines] == ["alpha", "beta"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("RESULTS PASS 1 FAIL 0 ERROR 0 WARN 1 CANCEL 1 SKIP 0 INTERRUPT 0 report: ")
    text = (tmp_path / "all" / "results.xml").read_text()
    assert 'classname="alpha.t.T"' in text
    assert "ok 1 - alpha: t.py:T.a\n" in (tmp_path / "all" / "results.tap").read_text()


def test_a_run_that_was_killed_shows_what_ended_and_what_did_not(tmp_path: Path) -> None:
    root = run(tmp_path / "r", "beta", planned(A), planned(B), planned(C), finished=False, lanes=())
    entries = ended(A, "PASS"), ended(B, "CANCEL", "no kvm."), {"event": "start", "name": C}
    journal(root, "here", [A, B, C], *entries)
    part = machines.read(root)
    assert part.results is not None
    assert [(test.status, test.lane) for test in part.results.tests] == [
        ("PASS", "here"),
        ("INTERRUPT", "here"),
        ("ERROR", "here"),
    ]
    assert "before it was tried in the lab" in part.results.tests[1].reason
    assert "running when the Avocado job of lane here was last heard of" in part.results.tests[2].reason
    good = machines.read(run(tmp_path / "one", "alpha", Result(A, "PASS", "here")))
    merged = machines.together([good, part], tmp_path / "all", ("scripts/merge",))
    assert merged.exit_status() == 1
    assert "beta: vanished before its run ended; 2 of 3 tests had a result by then." in merged.problems
    assert [machine.finished for machine in merged.machines] == [True, False]


def test_a_run_killed_in_its_second_lane(tmp_path: Path) -> None:
    root = run(tmp_path / "r", "beta", planned(A), planned(B), planned(C), finished=False, lanes=())
    journal(
        root, "here", [A, B, C], ended(A, "CANCEL", "x"), ended(B, "CANCEL", "x"), ended(C, "CANCEL", "x")
    )
    journal(root, "lab-1", [A], ended(A, "PASS"))
    journal(root, "lab-2", [B], {"event": "start", "name": B})
    part = machines.read(root)
    assert part.results is not None
    assert [test.status for test in part.results.tests] == ["PASS", "ERROR", "INTERRUPT"]
    assert [lane.status for lane in part.results.lanes] == [None] * 3


@pytest.mark.parametrize("plan", [[f"{A};v1", f"{A};v2"], [A]])
def test_variants_that_no_job_had_begun_are_not_forgotten(tmp_path: Path, plan: list[str]) -> None:
    root = run(tmp_path / "r", "beta", *map(planned, plan), finished=False, lanes=())
    journal(root, "lab-1", [f"{A};v1"], ended(f"{A};v1", "PASS"))
    part = machines.read(root)
    assert part.results is not None
    found = {test.name: test.status for test in part.results.tests}
    assert found == {f"{A};v1": "PASS", **({f"{A};v2": "INTERRUPT"} if len(plan) == 2 else {})}


def test_a_run_killed_before_its_first_job_shows_its_plan(tmp_path: Path) -> None:
    part = machines.read(run(tmp_path / "r", "beta", planned(A), planned(B), finished=False))
    assert part.results is not None
    assert [test.status for test in part.results.tests] == ["INTERRUPT"] * 2
    assert part.results.exit_status() == 1


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"format": 99}', '{"tests": 3, "lanes": []}'])
def test_a_machine_of_which_nothing_came(tmp_path: Path, text: str | None) -> None:
    good = run(tmp_path / "one", "alpha", Result(A, "PASS", "here"))
    gone = tmp_path / "gone"
    if text is not None:
        gone.mkdir()
        (gone / "results.json").write_text(text)
    assert cli.main([str(good), str(gone), "--output", str(tmp_path / "all")]) == 1
    results = from_json(json.loads((tmp_path / "all" / "results.json").read_text()))
    assert [(machine.name, machine.finished) for machine in results.machines] == [
        ("alpha", True),
        ("gone", False),
    ]
    assert len(results.problems) == 1
    page = (tmp_path / "all" / "report" / "index.html").read_text()
    assert "1 of 2 machines vanished: gone" in page


def test_a_machine_on_which_nothing_could_run_is_a_problem(tmp_path: Path) -> None:
    good = machines.read(run(tmp_path / "one", "alpha", Result(A, "PASS", "here")))
    empty = machines.read(run(tmp_path / "two", "beta", Result(A, "CANCEL", "here", reason="no kvm")))
    merged = machines.together([good, empty], tmp_path, ())
    assert merged.problems == ("beta: no test of its run could run.",)


def test_machines_of_one_name_are_told_apart_by_their_directories(tmp_path: Path) -> None:
    parts = [machines.read(run(tmp_path / name, "ci", Result(A, "PASS", "here"))) for name in ("one", "two")]
    merged = machines.together(parts, tmp_path, ())
    assert [machine.name for machine in merged.machines] == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nothing came from it"),
        (["one", "one"], "named twice"),
        (["one", "--output", "one"], "choose another one"),
        (["one", "--against", "nowhere"], "there is no results.json"),
        (["merged"], "merged already"),
        (["one", "--output", "file"], "choose another directory"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "one", "alpha", Result(A, "PASS", "here"))
    assert cli.main(["one", "--output", "merged"]) == 0
    (tmp_path / "file").touch()
    capsys.readouterr()
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
