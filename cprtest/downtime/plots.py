# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots of a record: the pause by phase as stacked bars, every sample, and growth along an axis."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cprtest.downtime import judge
from cprtest.downtime.breakdown import PARTS
from cprtest.downtime.record import Record
from cprtest.downtime.settings import IN_MIB

COLOURS = dict(
    zip(PARTS, ("#cc79a7", "#999999", "#e69f00", "#56b4e9", "#0072b2", "#009e73", "#d55e00"), strict=True)
)
"""Okabe and Ito's palette, which people who see few colours can tell apart."""
HATCHES = dict(zip(PARTS, ("", "//", "..", "\\\\", "", "xx", "++"), strict=True))

_WIDTH, _ROW = 8.0, 0.42

_GROWING = (("vcpu", "#0072b2", "o"), ("network", "#009e73", "^"), ("paused", "#d55e00", "x"))

Drawing = Callable[[Record, int, Axes], None]


def draw(record: Record, directory: Path, formats: Sequence[str] = ("svg",)) -> dict[tuple[int, str], str]:
    """Write the plots of all experiments; returns their names without ending, by experiment and kind."""
    directory.mkdir(parents=True, exist_ok=True)
    made = {}
    for number, experiment in enumerate(record.experiments):
        count = sum(bool(row.count) for row in judge.rows(record, number))
        kinds: dict[str, Drawing] = {"phases": stacked, "samples": growing if experiment.axis else samples}
        for kind, drawing in kinds.items():
            if count == 0:
                continue
            made[number, kind] = f"{experiment.name}-{kind}"
            height = 3.4 if drawing is growing else 1.2 + _ROW * count
            paths = [directory / f"{made[number, kind]}.{ending}" for ending in formats]
            _write(record, number, drawing, height, paths)
    return made


def _write(record: Record, number: int, drawing: Drawing, height: float, paths: Sequence[Path]) -> None:
    with mpl.rc_context():
        mpl.rc("svg", hashsalt="qemu-cpr", fonttype="none")
        mpl.rc("font", size=9)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        drawing(record, number, axes)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for path in paths:
            # No date, so that the same record makes the same file.
            figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def stacked(record: Record, number: int, axes: Axes) -> None:
    """The pause of each setting, stop to resume, by phase: medians."""
    shown = [row for row in judge.rows(record, number) if row.phases][::-1]
    names = [str(row.setting) for row in shown]
    left = [0.0] * len(shown)
    for part in PARTS:
        widths = [row.phases[part].value if part in row.phases else 0.0 for row in shown]
        if any(widths):
            axes.barh(names, widths, left=left, label=part, color=COLOURS[part], hatch=HATCHES[part],
                      edgecolor="white", linewidth=0.3)  # fmt: skip
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_xlabel("ms from stop to resume, median of each phase")
    axes.legend(ncols=len(PARTS), loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False, fontsize=8)


def samples(record: Record, number: int, axes: Axes) -> None:
    """Every sample of the vCPUs' blackout (or of the pause, where that is all there is), and the median."""
    shown = [
        (str(setting), values)
        for index, setting in enumerate(record.experiments[number].settings)
        if (values := record.series(number, index, "vcpu") or record.series(number, index, "paused"))
    ][::-1]
    for height, (_, values) in enumerate(shown):
        spread = [height + 0.25 * ((n * 0.618) % 1 - 0.5) for n in range(len(values))]
        axes.plot(values, spread, "o", markersize=3, alpha=0.45, color="#0072b2", markeredgewidth=0)
        middle = statistics.median(values)
        axes.plot([middle, middle], [height - 0.3, height + 0.3], color="#d55e00", linewidth=2)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    axes.set_xlim(left=0)
    axes.set_xlabel("ms without a sign of the vCPUs, every sample; bar: median")


def growing(record: Record, number: int, axes: Axes) -> None:
    """The figures along the axis of the experiment, with the fitted line of the pause."""
    axis = record.experiments[number].axis
    for figure, colour, mark in _GROWING:
        points = judge.axis_points(record, number, figure)
        axes.plot([x for x, _ in points], [y for _, y in points], mark, markersize=4, alpha=0.5, color=colour,
                  label=figure, markeredgewidth=1 if mark == "x" else 0)  # fmt: skip
    growth = judge.growth(record, number)
    if growth is not None:
        ends = (0, max(x for x, _ in judge.axis_points(record, number, judge.JUDGED)))
        axes.plot(ends, [growth.base + growth.slope.value * x for x in ends], color="#d55e00", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{axis}, MiB" if axis in IN_MIB else axis)
    axes.set_ylabel("ms")
    axes.legend(frameon=False)
