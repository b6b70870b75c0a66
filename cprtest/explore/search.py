# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes plans from a seed until the time is over; a plan that fails is made as small as still fails."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import hypothesis
from hypothesis import strategies

from cprtest.errors import CprError
from cprtest.explore.plan import KINDS, LOADS, NEVER_PAUSED, PLACES, VCPUS, Plan, Step

EXAMPLES = 20
"""Plans from one seed; then the next number is the seed."""


def plans(nets: Sequence[str]) -> strategies.SearchStrategy[Plan]:
    """All plans whose guests have one of these networks."""
    return strategies.builds(_plan, _guests(nets), strategies.lists(_steps(), min_size=1, max_size=8))


def _plan(guest: tuple[str, ...], steps: list[Step]) -> Plan:
    return Plan(guest, tuple(steps))


@strategies.composite
def _guests(draw: strategies.DrawFn, nets: Sequence[str]) -> tuple[str, ...]:
    words = [draw(strategies.sampled_from(VCPUS))]
    words += filter(None, [draw(strategies.sampled_from(nets))])
    words += ["disk"] if draw(strategies.booleans()) else []
    able = [load for load, devices in LOADS.items() if not devices or set(devices) & set(words)]
    return tuple(words + sorted(draw(strategies.sets(strategies.sampled_from(able), max_size=2))))


def _steps() -> strategies.SearchStrategy[Step]:
    def step(kind: str, place: int, paused: bool) -> Step:
        return Step(kind, place, paused and kind not in NEVER_PAUSED)

    kinds, places = strategies.sampled_from(list(KINDS)), strategies.integers(0, PLACES - 1)
    return strategies.builds(step, kinds, places, strategies.sampled_from([False, False, False, True]))


class Found(AssertionError):
    """A plan that fails: the smallest that was found."""


def search(play: Callable[[Plan], None], nets: Sequence[str], first: int, seconds: float) -> None:
    """Play plans from the seed `first` on for `seconds`, at least those of one seed.

    Raises Found with the smallest plan that failed, and the command that repeats it.
    """
    until = time.monotonic() + seconds
    for seed in itertools.count(first):
        _search(play, nets, seed, until if seed > first else float("inf"))
        if time.monotonic() > until:
            return


def _search(play: Callable[[Plan], None], nets: Sequence[str], seed: int, until: float) -> None:
    failed: dict[Plan, str] = {}

    def tried(plan: Plan) -> None:
        if not failed and time.monotonic() > until:
            return
        if plan not in failed:
            try:
                play(plan)
                return
            except (AssertionError, CprError) as failure:
                failed[plan] = str(failure)
        failed[plan] = failed.pop(plan)  # the last one: the library ends with the smallest
        # Always from here: to the library failures from two places are two.
        raise AssertionError(failed[plan])

    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )
    try:
        hypothesis.seed(seed)(settings(hypothesis.given(plans(nets))(tried)))()
    except Exception as error:
        if not failed:
            raise
        smallest = next(reversed(failed))
        raise Found(
            f"{failed[smallest]}\nSeed {seed}, {len(failed)} plans failed, this is the smallest; "
            f"repeat it with scripts/run explore --plan {smallest}"
        ) from error
