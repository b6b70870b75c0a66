# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of record, docs/downtime.md: made from records, so that no number on it was typed by hand."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from cprtest.downtime import judge, plots, statistics, table
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
        samples = [turn.sample for turn in self.record.turns if turn.experiment == self.number]
        loads, failed = [sample.load for sample in samples], sum(bool(sample.error) for sample in samples)
        if not samples:
            return f"{self.record.about['when']}: nothing, all of it is missing there"
        wrong = f" ({failed} failed)" if failed else ""
        when, memory = self.record.about["when"], self.record.about["host"]["memory"]
        busy = f"load {min(loads):.1f} to {max(loads):.1f}"
        return f"{when}, {memory}, {len(samples)} samples{wrong}, {busy}"

    @property
    def failures(self) -> list[str]:
        """How samples failed, each way once."""
        turns = (turn for turn in self.record.turns if turn.experiment == self.number)
        return sorted({turn.sample.error for turn in turns if turn.sample.error})

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

    def paused(self, word: str) -> Interval | None:
        """The pause of a setting, ms."""
        row = self.row(word)
        return row.figures.get(judge.JUDGED) if row else None

    def longer(self, word: str, other: str) -> Comparison | None:
        """The pause of `word` against that of `other`, by the blocks that have both."""
        settings = self.record.experiments[self.number].settings
        if parsed(word) not in settings or parsed(other) not in settings:
            return None
        index, first = (settings.index(parsed(some)) for some in (word, other))
        return judge.against(self.record, self.number, index, other=first)

    @property
    def grows(self) -> str:
        """How the pause grows along the axis, in words."""
        found = judge.growth(self.record, self.number)
        axis = self.record.experiments[self.number].axis
        return table.slope(found, axis).partition(": ")[2] if found else "not measured"

    def median(self, word: str, figure: str) -> float | None:
        """A figure or phase of a setting, ms."""
        row = self.row(word)
        found = row and (row.figures.get(figure) or row.phases.get(figure))
        return found.value if isinstance(found, Interval) else None


class Part(dict[str, Section]):
    """The sections of one lane by name."""

    def add(self, record: Record, path: Path) -> None:
        """Take the record's experiments; their plots are drawn beside the page `path`."""
        where = Path(path.stem, record.about["lane"])
        drawn = plots.draw(record, path.parent / where)
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
        parts.setdefault(record.about["lane"], Part()).add(record, path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # the page is Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(ms=milliseconds, around=around, label=label, cells=cells, step=step, p=chance)
    missing = [
        idea.question for name, idea in IDEAS.items() if not any(name in part for part in parts.values())
    ]
    template = environment.get_template("page.md.j2")
    page = template.render(
        parts=parts,
        records=records,
        missing=missing,
        loads=list(LOADS),
        kvm={record.about.get("kvm", "") for record in records},
        itself={lane: sum(map(_pairs_of_itself, part.values())) for lane, part in parts.items()},
    )
    path.write_text(page)


def _pairs_of_itself(section: Section) -> int:
    """How many blocks have the first setting twice, in an experiment that has enough of them to judge."""
    count = len(section.record.itself(section.number, judge.JUDGED))
    return count if count >= statistics.FEWEST else 0


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


def chance(p: float) -> str:
    """A p as it is told."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


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
