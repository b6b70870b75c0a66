# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's TSC against its monotonic clock."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cprtest.workloads.clocks import PERIOD_MS, _Tick, _tsc

_PER_NS = 2.4


PAUSE = 2_200_000_000


def ticks(jump_ns: float) -> list[_Tick]:
    """Two seconds of ticks; in the middle there is a pause, which both clocks count, and the TSC jumps."""
    made = []
    for n in range(100):
        at = n * PERIOD_MS * 1_000_000 + (PAUSE if n >= 50 else 0)
        tsc = int((at + (jump_ns if n >= 50 else 0)) * _PER_NS)
        transfer = 1 if n >= 50 else 0
        operation = SimpleNamespace(
            result=("tick", at, at, at, tsc, 0),
            transfer=transfer,
            place=f"vCPU 0, tick {n}",
        )
        made.append(_Tick(cast(Any, operation)))
    return made


@pytest.mark.parametrize("jump_ns", [0, 40e6, -40e6])
def test_a_tsc_that_goes_on(jump_ns: float) -> None:
    assert list(_tsc(ticks(jump_ns), 0)) == []
    assert list(_tsc([], 0)) == list(_tsc(ticks(0)[:1], 0)) == []


def test_a_tsc_that_goes_away_by_a_pause_at_most() -> None:
    assert list(_tsc(ticks(-1.9e9), PAUSE)) == []
    (problem,) = map(str, _tsc(ticks(-2.4e9), PAUSE))
    assert "the TSC stepped by -2.400 s" in problem
    (problem,) = map(str, _tsc(ticks(2.4e9), PAUSE))
    assert "the TSC stepped by 2.400 s" in problem


@pytest.mark.parametrize("jump_ns", [200e6, -200e6, 3600e9])
def test_a_tsc_that_jumps(jump_ns: float) -> None:
    (problem,) = map(str, _tsc(ticks(jump_ns), 0))
    assert f"the TSC stepped by {jump_ns / 1e9:.3f} s against the monotonic one" in problem
    assert "tick 50" in problem and problem.endswith("[phase resume]")
