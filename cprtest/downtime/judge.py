# SPDX-License-Identifier: GPL-2.0-or-later
"""What a record says: a row a setting, each against the first one, and the slope where an axis grows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cprtest.downtime import statistics
from cprtest.downtime.breakdown import PARTS, STEPS
from cprtest.downtime.record import Record
from cprtest.downtime.settings import COMPARED, Setting
from cprtest.downtime.statistics import Comparison, Interval
from cprtest.errors import UsageError

JUDGED = "paused"
"""The figure by which settings are compared: all modes have it, and its parts add up."""

_LEAST = 0.05
"""ms: less is not told of a phase."""

BLACKOUTS = ("vcpu", "network", "disk", "qemu", "paused")


@dataclass(frozen=True)
class Row:
    """One setting. figures, phases: medians in ms. against: the comparison with the first setting, which has
    none itself. grown: the phases that explain the difference.
    """

    setting: Setting
    count: int
    errors: Sequence[str]
    missing: str
    figures: dict[str, Interval]
    phases: dict[str, Interval]
    against: Comparison | None
    grown: Sequence[tuple[str, Interval]]

    def verdict(self) -> str:
        """What can be said of the difference, in a few words."""
        if self.against is None:
            return self.missing
        if why := self.unjudged():
            return why
        ratio, phases = self.against.ratio, self.named_phases()
        where = f"; {phases}" if phases else ""
        if self.against.p >= statistics.ALPHA:
            return f"no difference told (p = {self.against.p:.2g}){where}"
        if not self.against.real:
            return f"no difference beyond the noise ({self.against.floor:.0%}){where}"
        if not phases and self.against.count < statistics.FEWEST_FOR_PHASES:
            where = f"; too few samples to name a phase ({statistics.FEWEST_FOR_PHASES})"
        return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) times{where}"

    def unjudged(self) -> str:
        """Why nothing can be said of the difference; "" where something can."""
        if self.missing:
            return self.missing
        if self.against is None:
            return next(iter(self.errors), "no sample")
        if self.against.count < statistics.FEWEST:
            return f"too few samples to judge ({statistics.FEWEST} are needed)"
        if self.against.floor == math.inf:
            return f"noise not known ({statistics.FEWEST} samples of the first row again are needed)"
        return ""

    def named_phases(self) -> str:
        """The phases, and steps of acquire, that changed, what changed most first."""
        named = ((f"acquire ({name})" if name in STEPS else name, change) for name, change in self.grown)
        told = [f"{name} {change.value:+.1f} ms" for name, change in named if abs(change.value) >= _LEAST]
        return ", ".join(told[:3])


@dataclass(frozen=True)
class Growth:
    """How a figure grows along an axis, in ms per unit. count: samples."""

    figure: str
    slope: Interval
    base: float
    count: int

    @property
    def flat(self) -> bool:
        """No growth that could be told from none."""
        return self.slope.low <= 0 <= self.slope.high


def rows(record: Record, number: int, figure: str = JUDGED) -> list[Row]:
    """The settings of experiment `number`, but for the one that only tells the noise."""
    experiment = record.experiments[number]
    return [
        _row(record, number, index, figure)
        for index in range(len(experiment.settings))
        if index != experiment.noise
    ]


def _row(record: Record, number: int, index: int, figure: str) -> Row:
    experiment = record.experiments[number]
    setting = experiment.settings[index]
    names = [name for name in BLACKOUTS if record.series(number, index, name)]
    phases = [name for name in (*PARTS, *STEPS) if record.series(number, index, name)]
    return Row(
        setting,
        len(record.series(number, index, figure)),
        record.errors(number, index),
        record.missing.get(str(setting), ""),
        {name: statistics.median(record.series(number, index, name)) for name in names},
        {name: statistics.median(record.series(number, index, name)) for name in phases},
        against(record, number, index, figure) if index else None,
        grown(record, number, index) if index else (),
    )


def against(
    record: Record, number: int, index: int, figure: str = JUDGED, other: int = 0
) -> Comparison | None:
    """A setting compared with another, the first one of its experiment; None where there is too little."""
    pairs = record.pairs(number, other, index, figure)
    if len(pairs) < 2:
        return None
    return statistics.compare(pairs, record.itself(number, figure))


def grown(record: Record, number: int, index: int) -> list[tuple[str, Interval]]:
    """The phases, and the steps of acquire, in which a setting differs from the first one."""
    noise = record.experiments[number].noise
    changed, itself = (
        {name: record.part_pairs(number, 0, other, name) for name in (*PARTS, *STEPS) if other is not None}
        for other in (index, noise)
    )
    return statistics.grown(changed, itself)


def growth(record: Record, number: int, figure: str = JUDGED) -> Growth | None:
    """The slope of a figure along the experiment's axis; None without an axis or without samples."""
    points = axis_points(record, number, figure)
    if len({x for x, _ in points}) < 2:
        return None
    slope, base = statistics.slope(points)
    return Growth(figure, slope, base, len(points))


def axis_points(record: Record, number: int, figure: str) -> list[tuple[float, float]]:
    """Value on the axis and ms, of every sample."""
    experiment = record.experiments[number]
    if not experiment.axis:
        return []
    return [
        (getattr(setting, experiment.axis), y)
        for index, setting in enumerate(experiment.settings)
        for y in record.series(number, index, figure)
    ]


def too_slow(record: Record, limit: float, word: str) -> list[str]:
    """A sentence for each setting whose pause is more than `limit` times that of `word`, beyond the noise.

    So is one for each that was to be compared with it (--ab) and could not be judged. Of other experiments
    only settings count that differ from `word` by nothing but the QEMU. Raises UsageError when no experiment
    of the record compares anything with `word`.
    """
    compared = [
        (number, experiment)
        for number, experiment in enumerate(record.experiments)
        if not experiment.axis and str(experiment.settings[0]) == word
    ]
    if not compared:
        raise UsageError(f"No experiment of this record begins with {word}: see --against.")
    found = []
    for number, experiment in compared:
        asked = experiment.name == COMPARED
        first, *others = rows(record, number)
        for row in others:
            if not asked and replace(row.setting, qemu=first.setting.qemu) != first.setting:
                continue
            name = f"{experiment.name}: {row.setting}"
            if why := row.unjudged():
                found += [f"NOT JUDGED {name}: {why}."] if asked else []
            elif row.against and row.against.real and row.against.ratio.value > limit:
                said = f"the pause may be {limit:g} times that of {word}, and is {row.verdict()}"
                found.append(f"TOO SLOW {name}: {said}.")
    return found
