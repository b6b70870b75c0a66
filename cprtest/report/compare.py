# SPDX-License-Identifier: GPL-2.0-or-later
"""A run against an earlier one: what fails now, what works again, what no longer runs, what is slower."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cprtest.errors import UsageError
from cprtest.report.model import BAD, RAN_WELL, Result, Results, from_json

KINDS = {
    "new failure": "It worked then and fails now.",
    "fails, did not run then": "It fails now; then it could not run, or was not there.",
    "still fails": "It failed then, too.",
    "no longer run": "It ran then; now it could not, or is not there.",
    "fixed": "It failed then and works now.",
    "slower": "It took at least half as long again, and at least two seconds more. One sample each.",
    "faster": "The other way round.",
}
_RATIO, _LEAST = 1.5, 2.0


@dataclass(frozen=True)
class Change:
    """How one test differs. before, after: what to tell a person.

    number: the test's place in the run, from 1; 0 if it is not there.
    """

    kind: str
    name: str
    before: str
    after: str
    number: int = 0


def earlier(directory: Path) -> Results:
    """The results in `directory`. Raises UsageError."""
    path = directory / "results.json"
    try:
        return from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UsageError(f"--against {directory}: there is no results.json in it.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--against {directory}: results.json cannot be read: {error}.") from None


def changes(now: Results, then: Results) -> list[Change]:
    """What is different, in the order of KINDS."""
    order = list(KINDS)
    return sorted(_changes(now, then), key=lambda change: order.index(change.kind))


def _changes(now: Results, then: Results) -> Iterator[Change]:
    with_host = bool(now.machines and then.machines)
    before = {_key(test, with_host): test for test in then.tests}
    for number, test in enumerate(now.tests, 1):
        old = before.pop(_key(test, with_host), None)
        if kind := _kind(old, test):
            yield Change(kind, _label(test), _said(old, kind), _said(test, kind), number)
    for old in before.values():
        if old.status in RAN_WELL or old.status in BAD:
            yield Change("no longer run", _label(old), old.status, "not there")


def _kind(old: Result | None, new: Result) -> str:
    """The kind of change from `old` to `new`, or nothing."""
    was = old.status if old else ""
    if new.status in BAD:
        kinds = {**dict.fromkeys(BAD, "still fails"), **dict.fromkeys(RAN_WELL, "new failure")}
        return kinds.get(was, "fails, did not run then")
    if new.status not in RAN_WELL:
        return "no longer run" if was in RAN_WELL + BAD else ""
    if was in BAD:
        return "fixed"
    return _pace(old, new) if old and was in RAN_WELL else ""


def _pace(old: Result, new: Result) -> str:
    """Whether a test that works took notably longer or shorter; another lane has another speed."""
    less, more = sorted((old.duration, new.duration))
    if old.lane != new.lane or more < _RATIO * less or more - less < _LEAST:
        return ""
    return "slower" if new.duration > old.duration else "faster"


def _said(test: Result | None, kind: str) -> str:
    if test is None:
        return "not there"
    return f"{test.duration:.1f} s" if kind in ("slower", "faster") else test.status


def _key(test: Result, with_host: bool) -> tuple[str, str]:
    return (test.host if with_host else "", test.name)


def _label(test: Result) -> str:
    return f"{test.name} ({test.host})" if test.host else test.name
