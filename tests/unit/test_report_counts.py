# SPDX-License-Identifier: GPL-2.0-or-later
"""CI's line of counts: what is missing counts as failed."""

import json
from pathlib import Path

import pytest

from cprtest.report.counts import Counts, main, of_pytest, of_run


def write(directory: Path, exit_status: int = 0, **counts: int) -> None:
    all_counts = dict.fromkeys(("PASS", "FAIL", "ERROR", "WARN", "CANCEL", "SKIP", "INTERRUPT"), 0) | counts
    (directory / "smoke").mkdir()
    data = {"counts": all_counts, "exit_status": exit_status}
    (directory / "smoke" / "results.json").write_text(json.dumps(data))
    (directory / "pytest.xml").write_text(
        '<testsuites><testsuite tests="10" failures="1" errors="1" skipped="3"/></testsuites>'
    )


def test_counts_are_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 1, PASS=5, WARN=2, FAIL=1, ERROR=1, INTERRUPT=1, CANCEL=4, SKIP=1)
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "12 passed, 5 failed, 8 skipped"


def test_nothing_there_is_a_failure(tmp_path: Path) -> None:
    assert of_pytest(tmp_path / "pytest.xml") == of_run(tmp_path / "results.json") == Counts(failed=1)
    (tmp_path / "pytest.xml").write_text("<testsuites>")
    assert of_pytest(tmp_path / "pytest.xml") == Counts(failed=1)


def test_a_run_with_a_problem_has_a_failure(tmp_path: Path) -> None:
    write(tmp_path, 1, PASS=3)
    assert of_run(tmp_path / "smoke" / "results.json") == Counts(3, 1, 0)
