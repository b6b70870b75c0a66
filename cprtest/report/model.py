# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's results as results.json holds them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

STATUSES = ("PASS", "FAIL", "ERROR", "WARN", "CANCEL", "SKIP", "INTERRUPT")
BAD = ("FAIL", "ERROR", "INTERRUPT")
RAN_WELL = ("PASS", "WARN")


@dataclass(frozen=True)
class Result:
    """How one test ended.

    name: FILE:Class.method, with ;variant if it has one. duration in seconds. reasons: what each lane
    said, by lane; reason: what a person should read. directory: relative to the results directory.
    promise: the first line of the test's docstring. defect: id of the known defect behind a WARN.
    """

    name: str
    status: str
    lane: str
    duration: float = 0.0
    reason: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    directory: str = ""
    promise: str = ""
    tags: tuple[str, ...] = ()
    defect: str = ""


@dataclass(frozen=True)
class Lane:
    """A lane's job. status: its exit status. patience: how many times slower than bare-metal KVM it is."""

    name: str
    directory: str
    status: int
    interrupted: bool
    patience: float | None
    duration: float


@dataclass(frozen=True)
class Results:
    """A whole run. started: ISO 8601 with the time zone; duration in seconds.

    problems: what went wrong outside the tests, one sentence each; any makes the run a failure.
    """

    suite: str
    command: tuple[str, ...]
    started: str
    duration: float
    host: dict[str, str]
    versions: dict[str, str]
    lanes: tuple[Lane, ...]
    tests: tuple[Result, ...]
    problems: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many tests ended in each status, in the order of STATUSES."""
        return {status: sum(test.status == status for test in self.tests) for status in STATUSES}

    def exit_status(self) -> int:
        """0 if at least one test ran and nothing at all went wrong, else 1."""
        ran = any(test.status in RAN_WELL for test in self.tests)
        bad = any(test.status in BAD for test in self.tests)
        return 0 if ran and not bad and not self.problems else 1

    def summary(self, report: str) -> str:
        """The line that ends the output of every run; `report` is the path of the report."""
        counts = " ".join(f"{status} {count}" for status, count in self.counts().items())
        return f"RESULTS {counts} report: {report}"

    def as_json(self) -> dict[str, Any]:
        """The contents of results.json."""
        return {**dataclasses.asdict(self), "counts": self.counts(), "exit_status": self.exit_status()}

    def with_problem(self, sentence: str) -> "Results":
        """The same run with one more problem."""
        return dataclasses.replace(self, problems=(*self.problems, sentence))


def from_json(data: dict[str, Any]) -> Results:
    """The results that as_json() wrote."""
    fields = {name: data[name] for name in (f.name for f in dataclasses.fields(Results))}
    fields["command"] = tuple(data["command"])
    fields["problems"] = tuple(data["problems"])
    fields["lanes"] = tuple(Lane(**lane) for lane in data["lanes"])
    fields["tests"] = tuple(Result(**{**test, "tags": tuple(test["tags"])}) for test in data["tests"])
    return Results(**fields)
