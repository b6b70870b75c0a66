# SPDX-License-Identifier: GPL-2.0-or-later
"""The trial of all mutants: what is tried in which lane and in which order, and the workers that do it.

First the reference in a lane, then the mutants there: on this host as many side by side as it has CPUs, then
in labs those that need one and those that survived here. The reference also tells how much patience the tests
really need; mutants get a multiple of that, since a test that fails often does so by a wait in vain.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cprtest import paths
from cprtest.errors import CprError
from cprtest.job import lane as lanes
from cprtest.lab.launch import side_by_side
from cprtest.mutants import catalogue
from cprtest.mutants.catalogue import REFERENCE, Mutant, Test
from cprtest.mutants.verdicts import Book, known_killers

LANES = ("here", "lab")

MARGIN = 4.0
"""Times the patience that the slowest wait of the reference needed, for the mutants."""

BATCH = 4
"""Tests of the reference that are run in one go: what an interrupt costs at most, a job's start saves."""

MOST = {("here", "here"): 24, ("here", "lab"): 3, ("lab", "lab"): 6}
"""Tests that a mutant of the first lane has to survive in the second. The most promising come first."""


@dataclass(frozen=True)
class Settings:
    """lanes: where to try. labs: side by side; None for what suits the host."""

    lanes: tuple[str, ...] = LANES
    labs: int | None = None


@dataclass(frozen=True)
class _Worker:
    """A worker in a lane, as cprtest.job.lane runs it. plan: of all workers."""

    lane: str
    plan: Path
    number: int

    @property
    def directory(self) -> Path:
        """Its name stands before the worker's lines."""
        return self.plan.parent / f"{self.lane}-{self.number}"

    def command(self) -> list[str]:
        """See cprtest.job.lane.Runnable."""
        words = [str(paths.VENV / "bin" / "python"), "-m", "cprtest.mutants.worker"]
        words += [str(self.plan), str(self.number)]
        return lanes.in_lane(self.lane, self.plan.parent, words)


class Trial:
    """The mutants `wanted` against `tests`; what is found goes into `book`, what it has is not done again."""

    def __init__(self, wanted: list[Mutant], tests: list[Test], book: Book, settings: Settings) -> None:
        self._wanted = wanted
        self._tests = {test.name: test for test in tests}
        self._book = book
        self._settings = settings
        self._killers = known_killers()

    def run(self) -> None:
        """Try what has not been tried. Raises KeyboardInterrupt, and CprError when a worker fails."""
        for where in self._settings.lanes:
            if todo := self._todo(where):
                self._check_reference(where, list(dict.fromkeys(test for _, tests in todo for test in tests)))
                self._try(where, self._todo(where))

    def _todo(self, where: str) -> list[tuple[Mutant, list[str]]]:
        """The mutants that live, with the tests of a lane that each has not met; the first of them decide."""
        tests = self._tests_in(where)
        known = self._book.verdicts()
        todo = []
        for mutant in self._wanted:
            verdict = known.get(mutant.name)
            if (verdict and verdict.killed) or (where == "here" and mutant.lane == "lab"):
                continue
            fitting = catalogue.fitting(mutant, tests, where, self._killers.get(mutant.name, ""))
            if left := [
                test
                for test in fitting[: MOST[mutant.lane, where]]
                if not verdict or test not in verdict.tried
            ]:
                todo.append((mutant, left))
        return todo

    def _tests_in(self, where: str) -> list[Test]:
        """The tests of a lane: those that cannot run on this host go to the lab, dirty ones nowhere."""
        checked = {(line.lane, line.test): line for line in self._book.reference()}
        found = []
        for test in self._tests.values():
            here = checked.get(("here", test.name))
            lane = "lab" if here and here.status == "cancelled" else test.lane
            seen = checked.get((lane, test.name))
            if lane == where and (seen is None or seen.status == "clean"):
                found.append(replace(test, lane=lane, seconds=seen.seconds if seen else 0.0))
        return found

    def _check_reference(self, where: str, names: list[str]) -> None:
        checked = {line.test for line in self._book.reference() if line.lane == where}
        left = [name for name in names if name not in checked]
        if not left:
            return
        tries = [
            {"name": f"{REFERENCE}-{n}", "mutant": REFERENCE, "phase": "", "tests": left[n : n + BATCH]}
            for n in range(0, len(left), BATCH)
        ]
        self._work(where, tries, f"The reference with {len(left)} tests")

    def _try(self, where: str, todo: Sequence[tuple[Mutant, list[str]]]) -> None:
        if not todo:
            return
        # Those with many tests to meet first, so that the workers end together; known kills take no time.
        ordered = sorted(todo, key=lambda each: (each[0].name in self._killers, -len(each[1])))
        needed = {line.test: line.patience for line in self._book.reference() if line.lane == where}
        tries = [
            {
                "name": mutant.name,
                "mutant": mutant.name,
                "phase": mutant.phase,
                "tests": names,
                "patience": MARGIN * max(needed.get(name, 0.0) for name in names),
            }
            for mutant, names in ordered
        ]
        self._work(where, tries, f"{len(tries)} mutants")

    def _side_by_side(self, where: str) -> int:
        if where == "lab":
            return self._settings.labs or side_by_side()
        return len(os.sched_getaffinity(0))

    def _work(self, where: str, tries: list[dict[str, Any]], what: str) -> None:
        directory = Path(tempfile.mkdtemp(prefix=f"{where}-", dir=self._book.root))
        plan = directory / "plan.json"
        plan.write_text(json.dumps({"directory": str(directory), "tries": tries}, indent=1))
        count = min(self._side_by_side(where), len(tries))
        print(f"{what}, {_place(where, count)}.", flush=True)
        try:
            ended = lanes.run([_Worker(where, plan, number) for number in range(1, count + 1)])
        finally:
            self._book.collect()
        if any(end.interrupted for end in ended):
            raise KeyboardInterrupt
        if failed := [end for end in ended if end.status]:
            raise CprError(f"A worker in lane {where} ended with status {failed[0].status}; see above.")


def _place(where: str, count: int) -> str:
    one = "here" if where == "here" else "in a lab"
    return one if count == 1 else f"{count} side by side {'here' if where == 'here' else 'in labs'}"
