# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a moment stands in the drawing.

A hand-over has steps of microseconds beside waits of a hundred milliseconds. True to scale the steps, which
the order is about, would be invisible. So every stretch between two moments that matter gets a width that
grows with the square root of its length, and at least as much as it takes to be seen.
"""

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence

_LEAST = 5.0
_SHARED = 520.0


class Scale:
    """From ns on the common clock to a horizontal position.

    moments: what has to be told apart. wide: stretches (start, end, width) that are at least so wide.
    left: the position of the first moment.
    """

    def __init__(self, moments: Iterable[int], wide: Sequence[tuple[int, int, float]], left: float) -> None:
        self._moments = sorted({*moments, *(edge for stretch in wide for edge in stretch[:2])})
        lengths = [b - a for a, b in itertools.pairwise(self._moments)]
        roots = sum(math.sqrt(length) for length in lengths) or 1.0
        widths = [_LEAST + _SHARED * math.sqrt(length) / roots for length in lengths]
        for start, end, width in wide:
            inside = range(self._moments.index(start), self._moments.index(end))
            missing = width - sum(widths[n] for n in inside)
            if missing > 0:
                for n in inside:
                    widths[n] += missing / len(inside)
        self._places = list(itertools.accumulate(widths, initial=left))

    @property
    def right(self) -> float:
        """The position of the last moment."""
        return self._places[-1]

    def __call__(self, t: int) -> float:
        """The position of `t`; what is outside stands at the edge."""
        n = bisect.bisect_right(self._moments, t)
        if n == 0:
            return self._places[0]
        if n == len(self._moments):
            return self._places[-1]
        part = (t - self._moments[n - 1]) / (self._moments[n] - self._moments[n - 1])
        return round(self._places[n - 1] + part * (self._places[n] - self._places[n - 1]), 1)
