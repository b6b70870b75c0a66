# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's results as results.json holds them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

STATUSES = ("PASS", "FAIL", "ERROR", "WARN", "CANCEL", "SKIP", "INTERRUPT")
BAD = ("FAIL", "ERROR", "INTERRUPT")
RAN_WELL = ("PASS", "WARN")
FORMAT = 1
"""Of results.json (docs/results.md): raised when a program that reads it would have to change."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Result:
    """How one test ended.

    name: FILE:Class.method, with ;variant if it has one. duration in seconds. reasons: what each lane
    said, by lane; reason: what a person should read. directory: relative to the results directory.
    promise: the first line of the test's docstring. defect: id of the known defect behind a WARN. host:
    the machine, where the results of several are merged; empty in the results of one.
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
    host: str = ""


@dataclass(frozen=True)
class Lane:
    """A lane's job. status: None if nobody saw it end. patience: how many times slower than KVM it is."""

    name: str
    directory: str
    status: int | None
    interrupted: bool
    patience: float | None
    duration: float


@dataclass(frozen=True)
class Machine:
    """A machine whose results are part of merged ones.

    name: as in Result.host. finished: False if it vanished before its run ended. The rest is as in its own
    results.json.
    """

    name: str
    finished: bool
    directory: str
    command: tuple[str, ...] = ()
    started: str = ""
    duration: float = 0.0
    host: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    lanes: tuple[Lane, ...] = ()


@dataclass(frozen=True)
class Results:
    """A whole run. started: ISO 8601 with the time zone; duration in seconds.

    problems: what went wrong outside the tests, one sentence each; any makes the run a failure. finished:
    False in what a run writes when it begins, with every planned test as INTERRUPT: that is what stays of one
    that is killed. machines: those whose results were merged; empty for a run on one machine.
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
    finished: bool = True
    machines: tuple[Machine, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many tests ended in each status, in the order of STATUSES."""
        return {status: sum(test.status == status for test in self.tests) for status in STATUSES}

    def machine(self, name: str, directory: str) -> Machine:
        """The machine it ran on, whose results lie in `directory`."""
        where = (self.command, self.started, self.duration, self.host, self.versions, self.lanes)
        return Machine(name, self.finished, directory, *where)

    def bad(self) -> list[Result]:
        """The tests that failed or did not come to an end."""
        return [test for test in self.tests if test.status in BAD]

    def exit_status(self) -> int:
        """0 if at least one test ran and nothing at all went wrong, else 1."""
        ran = any(test.status in RAN_WELL for test in self.tests)
        return 0 if ran and not self.bad() and not self.problems and self.finished else 1

    def summary(self, report: str) -> str:
        """The line that ends the output of every run; `report` is the path of the report."""
        counts = " ".join(f"{status} {count}" for status, count in self.counts().items())
        return f"RESULTS {counts} report: {report}"

    def as_json(self) -> dict[str, Any]:
        """The contents of results.json."""
        more = {"counts": self.counts(), "exit_status": self.exit_status()}
        return {"format": FORMAT, **dataclasses.asdict(self), **more}

    def with_problem(self, sentence: str) -> "Results":
        """The same run with one more problem."""
        return dataclasses.replace(self, problems=(*self.problems, sentence))


def from_json(data: dict[str, Any]) -> Results:
    """The results that as_json() wrote, now or earlier: a field that is missing has its default.

    Raises ValueError for what is no such thing.
    """
    if not isinstance(data, dict) or data.get("format", FORMAT) != FORMAT:
        raise ValueError(f"not results of format {FORMAT}")
    try:
        return _made(
            Results,
            data,
            lanes=_lanes(data["lanes"]),
            tests=tuple(_made(Result, test) for test in data["tests"]),
            machines=tuple(_made(Machine, m, lanes=_lanes(m["lanes"])) for m in data.get("machines", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not whole: {type(error).__name__} {error}") from None


def _lanes(data: list[dict[str, Any]]) -> tuple[Lane, ...]:
    return tuple(_made(Lane, lane) for lane in data)


def _made(kind: type[_T], data: dict[str, Any], **parts: Any) -> _T:
    """A `kind` from its JSON: lists become tuples, what it does not know is left out."""
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name in known}
    return kind(**{**values, **parts})
