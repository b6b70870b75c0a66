# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of several machines made one. A machine that vanished shows as such, and never as a success.

A run writes results.json when it begins, with every planned test as INTERRUPT, and its lanes' jobs keep
journals. So of a run that was killed, what had ended is known, and so is what had not.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cprtest.errors import UsageError
from cprtest.report.merge import Ended, lane_results, merged, read_journal
from cprtest.report.model import Lane, Machine, Result, Results, from_json


@dataclass(frozen=True)
class Part:
    """What came from one machine. results: None if nothing at all came."""

    directory: Path
    results: Results | None
    problem: str = ""


def read(directory: Path) -> Part:
    """The results of the run that wrote into `directory`, also if it was killed before it ended.

    A directory that is not there, or has no results.json, is a machine that was never heard of.
    """
    path = directory / "results.json"
    try:
        written = from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        return Part(directory, None, f"nothing came from it: {path} is not there")
    except (OSError, ValueError) as error:
        return Part(directory, None, f"{path} cannot be read: {error}")
    return Part(directory, written if written.finished else salvaged(written, directory))


def salvaged(written: Results, root: Path) -> Results:
    """What is known of a run that wrote `written` into `root` when it began, and did not end."""
    found: dict[str, list[Result]] = {}
    lanes = []
    for directory in sorted(path for path in root.iterdir() if path.is_dir()):
        journal = read_journal(directory)
        if journal is None or not journal.plan:
            continue
        ended = Ended(journal.lane, None, False)
        found.setdefault(journal.lane, []).extend(lane_results(ended, journal, [], root))
        where = str(journal.directory.relative_to(root))
        lanes.append(Lane(journal.lane, where, None, False, journal.patience, 0.0))
    known = merged(found.get("here", []), found.get("lab", []))
    # A plan without variants stands for all variants of a test.
    names = {name for result in known for name in (result.name, result.name.partition(";")[0])}
    tests = [_open(result) for result in known]
    tests += [result for result in written.tests if result.name not in names]
    return dataclasses.replace(written, lanes=tuple(lanes), tests=tuple(tests))


def together(parts: Sequence[Part], root: Path, command: tuple[str, ...]) -> Results:
    """One Results of all parts, for the results directory `root`. Raises UsageError: none has any results."""
    there = [part.results for part in parts if part.results]
    for part in parts:
        if part.results and part.results.machines:
            raise UsageError(f"{part.directory} is merged already: name the directories of its machines.")
    if not there:
        raise UsageError("There is nothing to merge: " + "; ".join(p.problem for p in parts) + ".")
    machines, tests, problems = [], [], []
    for name, part in zip(_names(parts), parts, strict=True):
        where = os.path.relpath(part.directory, root)
        machines.append(_machine(name, part, where))
        problems += [f"{name}: {sentence}" for sentence in _problems(part)]
        for test in part.results.tests if part.results else ():
            directory = f"{where}/{test.directory}" if test.directory else ""
            tests.append(dataclasses.replace(test, host=name, directory=directory))
    return Results(
        suite=", ".join(dict.fromkeys(results.suite for results in there)),
        command=command,
        started=min((results.started for results in there), key=datetime.fromisoformat),
        duration=max(results.duration for results in there),
        host={"name": f"{len(parts)} machines"},
        versions={},
        lanes=(),
        tests=tuple(tests),
        problems=tuple(problems),
        machines=tuple(machines),
    )


def _open(result: Result) -> Result:
    """A test that was cancelled here would have gone to the lab next: its result is not known."""
    if result.status != "CANCEL" or result.lane == "lab":
        return result
    reason = f"The run ended before it was tried in the lab. Here it could not run: {result.reason}"
    return dataclasses.replace(result, status="INTERRUPT", reason=reason)


def _problems(part: Part) -> list[str]:
    if part.results is None:
        return [f"{part.problem}."]
    sentences = list(part.results.problems)
    if not part.results.finished:
        ended = sum(test.status != "INTERRUPT" for test in part.results.tests)
        sentences.append(
            f"vanished before its run ended; {ended} of {len(part.results.tests)} tests had a result by then."
        )
    elif part.results.exit_status() and not part.results.problems and not part.results.bad():
        sentences.append("no test of its run could run.")
    return sentences


def _machine(name: str, part: Part, where: str) -> Machine:
    return part.results.machine(name, where) if part.results else Machine(name, False, where)


def _names(parts: Sequence[Part]) -> list[str]:
    """A name for each machine: the host's own, unless that is unknown or two parts have the same."""
    own = [part.results.host.get("name", "") if part.results else "" for part in parts]
    return [
        name if name and own.count(name) == 1 else part.directory.resolve().name
        for name, part in zip(own, parts, strict=True)
    ]
