# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of few variants in which every possible pair, or triple, of values occurs, by Avocado's CIT plugin.

    python -m cprtest.job.reduction tests/vars/matrix.cit --strength 3     writes tests/vars/matrix.csv

The plugin searches at random for up to minutes, so tables are made once and kept; with its random numbers
seeded it finds the same again. tests/unit/test_matrix.py checks the kept ones against their files.
"""

import argparse
import csv
import itertools
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avocado_varianter_cit.Cit import Cit
from avocado_varianter_cit.Parser import Parser

from cprtest.errors import UsageError

PAIRS = 2
_SEED = 1
Row = tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """What a parameter file says. axes: values by name. excluded: sets of (axis, value) that never meet."""

    axes: dict[str, tuple[str, ...]]
    excluded: frozenset[tuple[tuple[int, int], ...]]

    @property
    def names(self) -> list[str]:
        """The axes in the order of the file."""
        return list(self.axes)

    @property
    def sizes(self) -> list[int]:
        """How many values each axis has."""
        return [len(values) for values in self.axes.values()]

    def allows(self, chosen: dict[int, int]) -> bool:
        """Whether no excluded combination is among `chosen` values, numbers by the number of their axis."""
        return not any(all(chosen.get(axis) == value for axis, value in bad) for bad in self.excluded)

    def possible(self, chosen: dict[int, int]) -> bool:
        """Whether there is a whole row with the `chosen` values."""
        if not self.allows(chosen):
            return False
        free = next((axis for axis in range(len(self.axes)) if axis not in chosen), None)
        return free is None or any(self.possible({**chosen, free: n}) for n in range(self.sizes[free]))

    def combinations(self, strength: int) -> Iterator[dict[int, int]]:
        """Every possible combination of values of `strength` axes."""
        for axes in itertools.combinations(range(len(self.axes)), strength):
            for values in itertools.product(*(range(self.sizes[axis]) for axis in axes)):
                chosen = dict(zip(axes, values, strict=True))
                if self.possible(chosen):
                    yield chosen


@dataclass(frozen=True)
class Reduction:
    """The rows in which every possible combination of `strength` values occurs."""

    space: Space
    strength: int
    rows: tuple[Row, ...]

    def missing(self) -> list[str]:
        """What should occur in a row and does not; empty for a reduction that is right."""
        numbers = [
            {
                axis: values.index(word)
                for axis, (values, word) in enumerate(zip(self.space.axes.values(), row, strict=True))
            }
            for row in self.rows
        ]
        wrong = [
            f"not allowed: {' '.join(self.rows[n])}"
            for n, row in enumerate(numbers)
            if not self.space.allows(row)
        ]
        seen = {
            tuple((a, row[a]) for a in axes)
            for row in numbers
            for axes in itertools.combinations(row, self.strength)
        }
        wanted = (tuple(chosen.items()) for chosen in self.space.combinations(self.strength))
        return wrong + [f"in no row: {self._words(chosen)}" for chosen in wanted if chosen not in seen]

    def describe(self) -> str:
        """The reduction in one sentence."""
        covered = sum(1 for _ in self.space.combinations(self.strength))
        return (
            f"{len(self.space.axes)} axes, {math.prod(self.space.sizes):,} combinations; all {covered:,} "
            f"possible combinations of {self.strength} values are in {len(self.rows)} variants."
        )

    def _words(self, chosen: tuple[tuple[int, int], ...]) -> str:
        axes = list(self.space.axes.items())
        return ", ".join(f"{axes[axis][0]} {axes[axis][1][value]}" for axis, value in chosen)


def read(file: Path) -> Space:
    """The axes and constraints of a parameter file. Raises UsageError."""
    try:
        with file.open() as lines:
            parameters, constraints = Parser.parse(lines)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{file} is no parameter file of Avocado's CIT plugin: {error}.") from error
    return Space({name: tuple(values) for name, values in parameters}, frozenset(constraints))


def reduced(space: Space, strength: int) -> Reduction:
    """Let the plugin search; the rows are sorted, so that guests of the same shape are neighbours."""
    random.seed(_SEED)
    found = Cit(space.sizes, strength, set(space.excluded)).compute()
    axes = list(space.axes.values())
    rows = sorted(tuple(axes[axis][value] for axis, value in enumerate(row)) for row in found)
    return Reduction(space, strength, tuple(rows))


def table(file: Path) -> tuple[list[str], list[Row]]:
    """The axes and rows of a table."""
    with file.open(newline="") as lines:
        axes, *rows = csv.reader(lines)
    return axes, [tuple(row) for row in rows]


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cprtest.job.reduction",
        description="Write FILE.csv beside FILE.cit: few variants with every possible combination in them.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.cit", help="axes and constraints (docs/hardware.md)")
    parser.add_argument(
        "--strength",
        type=int,
        default=PAIRS,
        choices=range(1, 7),
        metavar="N",
        help="2: pairs (default), 3: triples",
    )
    options = parser.parse_args(words)
    try:
        found = reduced(read(options.file), options.strength)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    with options.file.with_suffix(".csv").open("w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([found.space.names, *found.rows])
    print(found.describe())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
