# SPDX-License-Identifier: GPL-2.0-or-later
"""A run against an earlier one."""

import dataclasses

import pytest

from cprtest.report.compare import changes
from cprtest.report.model import Machine, Result, Results

A = "t.py:T.a"


def results(*tests: Result, machines: tuple[Machine, ...] = ()) -> Results:
    run = Results("smoke", (), "2026-11-22T19:00:00+00:00", 1.0, {}, {}, (), tests)
    return dataclasses.replace(run, machines=machines)


def kinds(now: Results, then: Results) -> list[str]:
    return [change.kind for change in changes(now, then)]


@pytest.mark.parametrize(
    ("then", "now", "kind"),
    [
        ("PASS", "FAIL", ["new failure"]),
        ("WARN", "ERROR", ["new failure"]),
        ("CANCEL", "FAIL", ["fails, did not run then"]),
        (None, "INTERRUPT", ["fails, did not run then"]),
        ("FAIL", "ERROR", ["still fails"]),
        ("FAIL", "PASS", ["fixed"]),
        ("PASS", "CANCEL", ["no longer run"]),
        ("FAIL", "SKIP", ["no longer run"]),
        ("PASS", None, ["no longer run"]),
        ("PASS", "PASS", []),
        ("CANCEL", "CANCEL", []),
        ("CANCEL", "PASS", []),
        ("CANCEL", None, []),
        (None, "PASS", []),
    ],
)
def test_kinds(then: str | None, now: str | None, kind: list[str]) -> None:
    before = results(*([Result(A, then, "here")] if then else []))
    after = results(*([Result(A, now, "here")] if now else []))
    assert kinds(after, before) == kind


@pytest.mark.parametrize(
    ("then", "now", "kind"),
    [
        (10.0, 15.5, ["slower"]),
        (15.5, 10.0, ["faster"]),
        (10.0, 14.0, []),
        (0.1, 1.9, []),
        (0.1, 2.2, ["slower"]),
    ],
)
def test_slower_and_faster(then: float, now: float, kind: list[str]) -> None:
    assert kinds(results(Result(A, "PASS", "lab", now)), results(Result(A, "PASS", "lab", then))) == kind


def test_another_lane_has_another_speed() -> None:
    assert kinds(results(Result(A, "PASS", "lab", 60.0)), results(Result(A, "PASS", "here", 1.0))) == []


def test_machines_are_compared_with_themselves() -> None:
    machines = (Machine("x", True, "x"), Machine("y", True, "y"))
    then = results(
        Result(A, "PASS", "here", host="x"), Result(A, "FAIL", "here", host="y"), machines=machines
    )
    now = results(Result(A, "FAIL", "here", host="x"), Result(A, "PASS", "here", host="y"), machines=machines)
    assert [(c.kind, c.number) for c in changes(now, then)] == [("new failure", 1), ("fixed", 2)]
