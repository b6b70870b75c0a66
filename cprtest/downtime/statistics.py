# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling a difference from noise: bootstrap intervals, permutation tests and slopes, all of scipy.

Two settings are compared by the ratios within blocks: what slows the machine down for a minute slows both.
"""

import functools
import math
import statistics as plain
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 0.01
"""A difference whose p is below this is significant."""

_RESAMPLES = 4999
FEWEST = 8
"""Pairs; of fewer no p below ALPHA can come (2 / 2**7 is larger), so nothing is ever reported of them."""

FEWEST_FOR_PHASES = 11
"""Pairs by which one of ten phases and steps can be told to have changed: their p is corrected by ten."""

Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval: 95 %, of a slope 99 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """ratio: of the second to the first in a pair. difference: in the unit of the samples. count: pairs.

    p: of the permutation test. floor: how far a ratio is from 1 by noise alone, as A/A runs have it; infinite
    where there are too few of these to know.
    """

    ratio: Interval
    difference: Interval
    p: float
    count: int
    floor: float

    @property
    def real(self) -> bool:
        """Significant, and larger than the noise floor."""
        distance = max(self.ratio.value, 1 / self.ratio.value) - 1
        return self.count >= FEWEST and self.p < ALPHA and distance > self.floor


def median(samples: Sequence[float]) -> Interval:
    """The median and its interval (percentile bootstrap)."""
    return _median(samples)


def compare(pairs: Pairs, noise: Pairs) -> Comparison:
    """Second against first of each pair. noise: pairs of one setting against itself, from the same blocks."""
    logs = log_ratios(pairs)
    differences = _differences(pairs)
    ratio = _median(logs)
    return Comparison(
        Interval(*(math.exp(one) for one in (ratio.value, ratio.low, ratio.high))),
        _median(differences),
        _p(logs),
        len(pairs),
        floor(noise),
    )


def floor(noise: Pairs) -> float:
    """How far from 1 the ratio of a setting to itself may be: the far end of its 99 % interval, less 1.

    Infinite where too few pairs tell.
    """
    if len(noise) < FEWEST:
        return math.inf
    return math.exp(_reach(log_ratios(noise))) - 1


def grown(phases: Mapping[str, Pairs], noise: Mapping[str, Pairs]) -> list[tuple[str, Interval]]:
    """The phases that got longer or shorter, what changed most first, with the difference.

    A permutation test each, on the differences; p is corrected for their number (Holm). As of the whole, what
    a setting differs by from itself is noise.
    """
    names = [name for name, pairs in phases.items() if len(pairs) >= FEWEST]
    changed = {name: _differences(phases[name]) for name in names}
    by_p = sorted((_p(changed[name]), name) for name in names)
    found = []
    for rank, (p, name) in enumerate(by_p):
        if p * (len(by_p) - rank) >= ALPHA:
            break
        change, itself = _median(changed[name]), noise.get(name, ())
        reach = _reach(_differences(itself)) if len(itself) >= FEWEST else math.inf
        if abs(change.value) > reach:
            found.append((name, change))
    return sorted(found, key=lambda one: -abs(one[1].value))


def slope(points: Sequence[tuple[float, float]]) -> tuple[Interval, float]:
    """What y grows by with x, with its interval, and y at x = 0 (Theil and Sen: the median of all slopes).

    The interval is that of ALPHA, as everything that is called a difference.
    """
    x, y = (np.array(values, float) for values in zip(*points, strict=True))
    if len(set(y)) == 1:
        return Interval(0.0, 0.0, 0.0), float(y[0])
    fitted = stats.theilslopes(y, x, alpha=1 - ALPHA)
    return Interval(float(fitted.slope), float(fitted.low_slope), float(fitted.high_slope)), float(
        fitted.intercept
    )


def apart(old: Sequence[float], new: Sequence[float]) -> float:
    """p that two independent series have one median (permutation test)."""
    test = stats.permutation_test(
        (np.asarray(old, float), np.asarray(new, float)),
        lambda a, b, axis: np.median(b, axis=axis) - np.median(a, axis=axis),
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=_generator(),
    )
    return float(test.pvalue)


def log_ratios(pairs: Pairs) -> list[float]:
    """log(second / first) of each pair."""
    return [math.log(b / a) for a, b in pairs]


def _differences(pairs: Pairs) -> list[float]:
    return [b - a for a, b in pairs]


def _reach(noise: Sequence[float]) -> float:
    """How far from nothing the median of mere noise may be, as surely as a difference has to be."""
    return max(map(abs, _bootstrapped(tuple(noise), 1 - ALPHA)))


def _median(samples: Sequence[float]) -> Interval:
    return Interval(plain.median(samples), *_bootstrapped(tuple(samples)))


def _p(changes: Sequence[float]) -> float:
    """p that the changes are as likely up as down (signed ranks, whose signs are permuted: Wilcoxon)."""
    if len(changes) < FEWEST or not any(changes):
        return 1.0
    return float(stats.wilcoxon(changes).pvalue)


# A page asks the same of the same samples many times, and each answer takes a tenth of a second.
@functools.cache
def _bootstrapped(data: tuple[float, ...], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of the median of `data`."""
    if len(set(data)) < 2:
        return data[0], data[0]
    made = stats.bootstrap(
        (data,),
        np.median,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=_generator(),
    )
    return float(made.confidence_interval.low), float(made.confidence_interval.high)


def _generator() -> np.random.Generator:
    """Always the same, so that a record always says the same."""
    return np.random.default_rng(1)
