# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of record, docs/downtime.md: made from records, so that no number on it was typed by hand."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from cprtest.downtime import judge, plots, table
from cprtest.downtime.breakdown import PARTS, STEPS
from cprtest.downtime.loads import LOADS
from cprtest.downtime.plans import IDEAS
from cprtest.downtime.record import Record
from cprtest.downtime.settings import Setting, parsed
from cprtest.downtime.statistics import Comparison, Interval
from cprtest.errors import UsageError


@dataclass
class Section:
    """An experiment of one record, as the page's template takes it."""

    record: Record
    number: int
    plots: dict[str, str]

    @property
    def name(self) -> str:
        return self.record.experiments[self.number].name

    @property
    def question(self) -> str:
        return self.record.experiments[self.number].question

    @property
    def recorded(self) -> str:
        """When, with how many samples, and how busy the machine was before each (load average)."""
        loads = [turn.sample.load for turn in self.record.turns if turn.experiment == self.number]
        return f"{self.record.about['when']}, {len(loads)} samples, load {min(loads):.1f} to {max(loads):.1f}"

    @functools.cached_property
    def rows(self) -> list[judge.Row]:
        return judge.rows(self.record, self.number)

    @property
    def figures(self) -> list[str]:
        """The blackout figures that anything was measured of."""
        return [name for name in judge.BLACKOUTS if any(name in row.figures for row in self.rows)]

    @property
    def parts(self) -> list[str]:
        """The phases, and the steps of acquire, that took any time."""
        return [name for name in (*PARTS, *STEPS) if any(name in row.phases for row in self.rows)]

    @property
    def slopes(self) -> list[str]:
        return table.slopes(self.record, self.number)

    @property
    def floor(self) -> float:
        """The noise: how far the first setting was from itself."""
        return next((row.against.floor for row in self.rows if row.against), 0.0)

    def row(self, word: str) -> judge.Row | None:
        """The row of a setting, if it was measured."""
        return next((row for row in self.rows if row.setting == parsed(word) and row.count), None)

    def against(self, word: str, figure: str) -> Comparison | None:
        """A setting compared with the first one by another figure than the pause."""
        settings = self.record.experiments[self.number].settings
        return judge.against(self.record, self.number, settings.index(parsed(word)), figure)

    def median(self, word: str, figure: str) -> float | None:
        """A figure or phase of a setting, ms."""
        row = self.row(word)
        found = row and (row.figures.get(figure) or row.phases.get(figure))
        return found.value if isinstance(found, Interval) else None


class Part(dict[str, Section]):
    """The sections of one lane by name, and what they were recorded on."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.about = about
        self.samples = self.failed = 0

    def add(self, record: Record, path: Path) -> None:
        """Take the record's experiments; their plots are drawn beside the page `path`."""
        where = Path(path.stem, record.about["lane"])
        drawn = plots.draw(record, path.parent / where)
        self.samples += len(record.turns)
        self.failed += sum(bool(turn.sample.error) for turn in record.turns)
        for number, experiment in enumerate(record.experiments):
            made = {kind: f"{where}/{name}.svg" for (n, kind), name in drawn.items() if n == number}
            if experiment.name in self:
                raise UsageError(f"Two of the records are of {experiment.name} in the lane {where.name}.")
            self[experiment.name] = Section(record, number, made)


def write(records: Sequence[Record], path: Path) -> None:
    """Write the page to `path`, and its plots to a directory beside it that is called like it.

    Raises UsageError for two records of one experiment in one lane.
    """
    parts: dict[str, Part] = {}
    for record in records:
        parts.setdefault(record.about["lane"], Part(record.about)).add(record, path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # the page is Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(ms=milliseconds, around=around, label=label, cells=cells, step=step)
    missing = [
        idea.question for name, idea in IDEAS.items() if not any(name in part for part in parts.values())
    ]
    template = environment.get_template("page.md.j2")
    path.write_text(template.render(parts=parts, missing=missing, loads=list(LOADS)))


def milliseconds(value: float | Interval | None) -> str:
    """A number of the page, in ms."""
    if isinstance(value, Interval):
        value = value.value
    return "" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def around(interval: Interval | None) -> str:
    """A median with its interval."""
    if interval is None:
        return ""
    return f"{milliseconds(interval)} ({milliseconds(interval.low)} to {milliseconds(interval.high)})"


def cells(found: Mapping[str, Interval], names: Sequence[str], intervals: bool = False) -> str:
    """What is found under these names, as cells of a table."""
    show = around if intervals else milliseconds
    return " | ".join(show(found.get(name)) for name in names)


def step(name: str) -> str:
    """The name of a phase, or of a step of acquire, which is set apart."""
    return f"*{name}*" if name in STEPS else name


def label(setting: Setting) -> str:
    """A setting's word, as code."""
    return f"`{setting}`"
