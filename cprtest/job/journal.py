# SPDX-License-Identifier: GPL-2.0-or-later
"""The job's journal: what was planned and what has ended, written as it happens.

Avocado writes results.json when all is over. A job that is killed, or a lab that dies, leaves none;
so an Avocado plugin writes JOB/journal.jsonl, one JSON object a line:

    {"event": "plan", "lane": "here", "patience": 3.1, "tests": [{"name": "...", "tags": [...]}, ...]}
    {"event": "start", "name": "..."}
    {"event": "end", "name": "...", "status": "PASS", "duration": 0.1, "reason": null, "directory": "..."}
    {"event": "done"}
"""

import json
import os
from pathlib import Path
from typing import Any

from avocado.core.plugin_interfaces import ResultEvents
from avocado.core.test_id import TestID

from cprtest import limits, paths

FILE = "journal.jsonl"

ended: set[str] = set()
"""Full test ids (with their number) that this process has seen end."""


class Journal(ResultEvents):  # type: ignore[misc]  # Avocado has no types
    """Writes the journal. An Avocado plugin of type result_events."""

    name = "cpr"
    description = "Journal of the job, complete up to the moment it is read"

    def __init__(self, config: dict[str, Any]) -> None:  # noqa: ARG002
        self._path: Path | None = None
        self._directory = Path()

    def pre_tests(self, job: Any) -> None:
        """Write down which tests there are."""
        self._directory = Path(job.logdir)
        self._path = self._directory / FILE
        runnables = [runnable for suite in job.test_suites for runnable in suite.tests or ()]
        plan = [
            {
                "name": _name(TestID(0, runnable.identifier, runnable.variant)),
                "tags": sorted(runnable.tags or ()),
            }
            for runnable in runnables
        ]
        # Measured here once: the tests, forked from this process, find it in their environment.
        self._write(event="plan", lane=paths.lane(), patience=limits.patience(), tests=plan)

    def start_test(self, result: Any, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Write down that a test runs."""
        self._write(event="start", name=_name(state["name"]))

    def test_progress(self, progress: bool = False) -> None:
        """Nothing: Avocado's interface asks for it."""

    def end_test(self, result: Any, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Write down how a test ended."""
        self._write(
            event="end",
            name=_name(state["name"]),
            status=state["status"],
            duration=round(state["time_elapsed"], 3),
            reason=state.get("fail_reason"),
            kind=state.get("fail_class"),
            directory=os.path.relpath(state["logdir"], self._directory),
        )
        ended.add(str(state["name"]))

    def post_tests(self, job: Any) -> None:  # noqa: ARG002
        """Write down that all tests had their turn."""
        self._write(event="done")

    def _write(self, **entry: Any) -> None:
        if self._path is not None:
            with open(self._path, "a") as journal:
                journal.write(json.dumps(entry) + "\n")


def _name(test: TestID) -> str:
    return f"{test.name}{test.str_variant}"
