# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables that `scripts/downtime` prints: one for each experiment, as soon as it has samples."""

from rich.table import Table

from cprtest.downtime.breakdown import PARTS, STEPS
from cprtest.downtime.judge import BLACKOUTS, Growth, growth, rows
from cprtest.downtime.record import Record
from cprtest.downtime.settings import IN_MIB
from cprtest.downtime.statistics import Interval

UNITS = {"vfio": "passthrough device"}
"""What one more on an axis is called, if not like the axis."""


def table(record: Record, number: int) -> Table:
    """The rows of experiment `number`: medians in ms, and what the difference to the first row is."""
    experiment = record.experiments[number]
    made = Table(title=f"{experiment.name}: {experiment.question}", title_justify="left", box=None)
    made.add_column("setting", overflow="fold")
    for name in ("n", *BLACKOUTS):
        made.add_column(name, justify="right")
    made.add_column("against the first row", overflow="fold")
    for row in rows(record, number):
        failed = f" ({len(row.errors)} failed: {row.errors[0]})" if row.errors else ""
        cells = [milliseconds(row.figures.get(name)) for name in BLACKOUTS]
        made.add_row(str(row.setting), str(row.count), *cells, row.verdict() + failed)
    return made


def phases(record: Record, number: int) -> Table:
    """The pause of each setting by phase: medians in ms."""
    made = Table(box=None)
    made.add_column("by phase, ms", overflow="fold")
    for name in PARTS:
        made.add_column(name, justify="right")
    made.add_column("(acquire: " + ", ".join(STEPS) + ")", justify="right")
    for row in rows(record, number):
        steps = " ".join(milliseconds(row.phases.get(name)) for name in STEPS)
        made.add_row(str(row.setting), *(milliseconds(row.phases.get(name)) for name in PARTS), steps)
    return made


def slopes(record: Record, number: int) -> list[str]:
    """A sentence for each figure that was measured along the experiment's axis."""
    axis = record.experiments[number].axis
    found = [growth(record, number, name) for name in (*BLACKOUTS, "start", "defer")]
    return [slope(one, axis) for one in found if one is not None]


def slope(one: Growth, axis: str) -> str:
    """The growth in words."""
    unit, scale = ("GiB", 1024) if axis in IN_MIB else (UNITS.get(axis, axis.removesuffix("s")), 1)
    grows = one.slope
    low, high = (f"{scale * end:+.2f}" for end in (grows.low, grows.high))
    flat = ", which is not told from none" if one.flat else ""
    return f"{one.figure}: {scale * grows.value:+.2f} ms per {unit} ({low} to {high}){flat}"


def milliseconds(interval: Interval | None) -> str:
    """The median, or nothing."""
    return "" if interval is None else f"{interval.value:.1f}"
