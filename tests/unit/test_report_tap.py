# SPDX-License-Identifier: GPL-2.0-or-later
"""results.tap."""

from cprtest.report import tap
from cprtest.report.model import Result, Results


def test_every_status_and_problem_is_a_point() -> None:
    tests = (
        Result("t.py:T.a", "PASS", "here"),
        Result("t.py:T.b", "FAIL", "here", reason="it\nbroke # here \x1b[1m"),
        Result("t.py:T.c", "CANCEL", "here", reason="no #kvm\nhere"),
        Result("t.py:T.d;x#1", "WARN", "here", reason="it crashes", defect="D-001"),
        Result("t.py:T.e", "INTERRUPT", "here"),
    )
    run = Results("smoke", (), "2026-11-22T19:00:00+00:00", 1.0, {}, {}, (), tests, ("The lab died.",))
    assert tap.render(run).splitlines() == [
        "TAP version 14",
        "1..6",
        "ok 1 - t.py:T.a",
        "not ok 2 - t.py:T.b",
        "  ---",
        "  status: FAIL",
        "  reason: |2",
        "    it",
        "    broke # here \\x1b[1m",
        "  ...",
        "ok 3 - t.py:T.c # SKIP no \\#kvm here",
        "ok 4 - t.py:T.d;x\\#1",
        "# known defect D-001: it crashes",
        "not ok 5 - t.py:T.e",
        "  ---",
        "  status: INTERRUPT",
        "  reason: |2",
        "    no reason was given",
        "  ...",
        "not ok 6 - the run itself",
        "  ---",
        "  status: PROBLEM",
        "  reason: |2",
        "    The lab died.",
        "  ...",
    ]
