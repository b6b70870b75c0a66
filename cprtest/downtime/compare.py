# SPDX-License-Identifier: GPL-2.0-or-later
"""A new record against an old one: regressions told from noise.

Days of one machine differ by more than builds do. So what is compared is not milliseconds, but the ratio of a
setting to the first one of its experiment, which was measured in the same minutes. The first one itself has
nothing to lean on: only where all others, two at least, got shorter beside it, it must have got longer.
"""

import math
import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass

from cprtest.downtime import statistics
from cprtest.downtime.judge import JUDGED
from cprtest.downtime.record import Record
from cprtest.errors import UsageError


@dataclass(frozen=True)
class Change:
    """How a setting's ratio to the first setting changed from the old record to the new one.

    p: of a permutation test between the blocks of both. floor: the larger noise floor of the two. count:
    blocks of the record that has fewer, of the setting or of the noise. lost: the old record had enough of
    them, and the new one has not.
    """

    experiment: str
    setting: str
    old: float
    new: float
    p: float
    floor: float
    count: int
    lost: bool

    @property
    def real(self) -> bool:
        """Significant, and larger than the noise."""
        enough = self.count >= statistics.FEWEST and self.p < statistics.ALPHA
        return enough and max(self.new / self.old, self.old / self.new) - 1 > self.floor

    @property
    def longer(self) -> bool:
        """It takes longer than it did."""
        return self.real and self.new > self.old

    def __str__(self) -> str:
        if self.count < statistics.FEWEST:
            few = f"too few samples to compare ({statistics.FEWEST} are needed)"
            return f"{self.experiment}: {self.setting}: {few}"
        if not self.real:
            return f"{self.experiment}: {self.setting}: no change seen (noise {self.floor:.0%})"
        way = "longer" if self.new > self.old else "shorter"
        times = f"{self.old:.2f} times the first setting's pause before, {self.new:.2f} times now"
        return f"{self.experiment}: {self.setting}: {way}: {times} (p = {self.p:.4f})"


def first_is_longer(found: Sequence[Change]) -> list[str]:
    """The experiments in which all other settings, two at least, got shorter beside the first one."""
    experiments = dict.fromkeys(change.experiment for change in found)
    of = {name: [change for change in found if change.experiment == name] for name in experiments}
    return [
        name
        for name, some in of.items()
        if len(some) > 1 and all(change.real and not change.longer for change in some)
    ]


def changes(old: Record, new: Record) -> list[Change]:
    """Each setting that both records have, in an experiment of one name with the same first setting.

    Raises UsageError for records of two lanes.
    """
    lanes = [str(record.about["lane"]) for record in (old, new)]
    if lanes[0] != lanes[1]:
        raise UsageError(
            f"The records are of two lanes, {' and '.join(lanes)}: a pause differs for that alone."
        )
    found = []
    for number, experiment in enumerate(new.experiments):
        before = next((n for n, one in enumerate(old.experiments) if one.name == experiment.name), None)
        if before is None or old.experiments[before].settings[0] != experiment.settings[0]:
            continue
        places = {str(setting): n for n, setting in enumerate(old.experiments[before].settings)}
        for index, setting in enumerate(experiment.settings):
            place = places.get(str(setting))
            if index == 0 or setting.again or place is None:
                continue
            found.append(_change(_Side(old, before, place), _Side(new, number, index)))
    return found


class _Side:
    """A setting in one of the records. count: the blocks that can be judged by."""

    def __init__(self, record: Record, number: int, index: int) -> None:
        self.experiment = record.experiments[number]
        self.setting = str(self.experiment.settings[index])
        itself = record.itself(number, JUDGED)
        self.logs = statistics.log_ratios(record.pairs(number, 0, index, JUDGED))
        self.count = min(len(self.logs), len(itself))
        self.floor = statistics.floor(itself)


def _change(old: _Side, new: _Side) -> Change:
    before, now = (math.exp(plain.median(side.logs)) if side.logs else math.nan for side in (old, new))
    count = min(old.count, new.count)
    p = statistics.apart(old.logs, new.logs) if count >= statistics.FEWEST else 1.0
    floor = max(old.floor, new.floor)
    lost = old.count >= statistics.FEWEST > new.count
    return Change(new.experiment.name, new.setting, before, now, p, floor, count, lost)
