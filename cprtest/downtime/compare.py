# SPDX-License-Identifier: GPL-2.0-or-later
"""A new record against an old one: regressions told from noise.

Days of one machine differ by more than builds do. So what is compared is not milliseconds, but the ratio of a
setting to the first one of its experiment, which was measured in the same minutes. The first one itself has
nothing to lean on: of it nothing is said.
"""

import math
import statistics as plain
from dataclasses import dataclass

from cprtest.downtime import statistics
from cprtest.downtime.judge import JUDGED
from cprtest.downtime.record import Record


@dataclass(frozen=True)
class Change:
    """How a setting's ratio to the first setting changed from the old record to the new one.

    p: of a permutation test between the blocks of both. floor: the larger noise floor of the two.
    """

    experiment: str
    setting: str
    old: float
    new: float
    p: float
    floor: float

    @property
    def real(self) -> bool:
        """Significant, and larger than the noise."""
        return self.p < statistics.ALPHA and max(self.new / self.old, self.old / self.new) - 1 > self.floor

    def __str__(self) -> str:
        if not self.real:
            return f"{self.experiment}: {self.setting}: no change seen (noise {self.floor:.0%})"
        way = "longer" if self.new > self.old else "shorter"
        times = f"{self.old:.2f} times the first setting's pause before, {self.new:.2f} times now"
        return f"{self.experiment}: {self.setting}: {way}: {times} (p = {self.p:.4f})"


def changes(old: Record, new: Record) -> list[Change]:
    """Each setting that both records have, in an experiment of one name with the same first setting."""
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
            was, now = (
                statistics.log_ratios(record.pairs(at, 0, where, JUDGED))
                for record, at, where in ((old, before, place), (new, number, index))
            )
            if len(was) > 1 and len(now) > 1:
                before_ratio, now_ratio = (math.exp(plain.median(logs)) for logs in (was, now))
                p, floor = statistics.apart(was, now), max(_floor(old, before), _floor(new, number))
                found.append(Change(experiment.name, str(setting), before_ratio, now_ratio, p, floor))
    return found


def _floor(record: Record, number: int) -> float:
    noise = record.experiments[number].noise
    return statistics.floor(record.pairs(number, 0, noise, JUDGED)) if noise else 0.0
