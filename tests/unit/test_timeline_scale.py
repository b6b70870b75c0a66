# SPDX-License-Identifier: GPL-2.0-or-later
"""Positions in the drawing: in order of time, short steps wide enough to be seen."""

import itertools

from cprtest.timeline.scale import Scale

MS = 10**6


def test_short_steps_are_seen_beside_long_waits() -> None:
    x = Scale([0, 100 * MS], [(20, 21, 60.0), (21, 90 * MS, 60.0)], left=100)
    assert x(0) == 100
    assert x(21) - x(20) > 59.8
    assert x(90 * MS) - x(21) > 200
    assert x(100 * MS) == x.right


def test_later_is_never_further_left() -> None:
    x = Scale([5, 1000, 7], [(1, 4, 30.0), (3, 900, 80.0)], left=0)
    places = [x(t) for t in range(-10, 1100)]
    assert all(a <= b for a, b in itertools.pairwise(places))
    assert places[0] == 0
    assert places[-1] == x.right


def test_one_moment_is_enough() -> None:
    assert Scale([7], [], left=3)(7) == 3
