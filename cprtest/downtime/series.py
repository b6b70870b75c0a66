# SPDX-License-Identifier: GPL-2.0-or-later
"""Running experiments: in turns and in shuffled order, so that a machine that gets slower is so for all."""

import random
import time
from collections.abc import Callable, Iterator, Sequence

from cprtest.downtime.record import Journal, Turn
from cprtest.downtime.sample import Sample
from cprtest.downtime.settings import Experiment, Setting

Place = tuple[int, int, int]
"""Experiment, block, setting."""


def schedule(experiments: Sequence[Experiment], seed: int) -> Iterator[Place]:
    """What to measure, in order: the same for the same seed. Block 0 of each experiment is warm-up."""
    for number, experiment in enumerate(experiments):
        for block in range(experiment.blocks + 1):
            order = list(range(len(experiment.settings)))
            random.Random(f"{seed} {number} {block}").shuffle(order)
            yield from ((number, block, setting) for setting in order)


def run(
    journal: Journal,
    seed: int,
    take: Callable[[Setting], Sample],
    progress: Callable[[int, int, float], None],
    deadline: float | None = None,
) -> bool:
    """Take every sample that the journal lacks; what it knows to be missing on this host is left out.

    progress: told how many are done, of how many, and the seconds that the rest will take. deadline: a time
    (time.monotonic) after which none is begun. Returns whether all are there.
    """
    record = journal.record
    words = [[str(setting) for setting in experiment.settings] for experiment in record.experiments]
    places = [
        place
        for place in schedule(record.experiments, seed)
        if words[place[0]][place[2]] not in record.missing
    ]
    done = journal.done()
    left = [place for place in places if place not in done]
    took: dict[str, float] = {words[turn.experiment][turn.setting]: turn.sample.took for turn in record.turns}
    for count, (experiment, block, setting) in enumerate(left):
        progress(len(places) - len(left) + count, len(places), _expected(left[count:], words, took))
        if deadline is not None and time.monotonic() > deadline:
            return False
        sample = take(record.experiments[experiment].settings[setting])
        took[words[experiment][setting]] = sample.took
        journal.add(Turn(experiment, block, setting, sample))
    progress(len(places), len(places), 0)
    return True


def _expected(left: Sequence[Place], words: Sequence[Sequence[str]], took: dict[str, float]) -> float:
    """Seconds for the samples that are left, each as long as its setting took last, others as the average."""
    average = sum(took.values()) / len(took) if took else 0.0
    return sum(took.get(words[experiment][setting], average) for experiment, _, setting in left)
