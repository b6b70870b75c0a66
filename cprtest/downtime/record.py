# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of a benchmark: what machine it was, what was measured, and every sample.

While it grows it is a journal beside the file, a line each, so that a run that is stopped, or killed, can go
on: PLAN and seed decide which sample comes next. The finished record is one JSON file.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from cprtest.downtime.breakdown import PARTS
from cprtest.downtime.sample import Sample
from cprtest.downtime.settings import Experiment, Setting
from cprtest.errors import UsageError

_FORMAT = 1
_PART = ".part"


@dataclass(frozen=True)
class Turn:
    """A sample in its place: which experiment and setting (indexes), which block. Block 0 is warm-up."""

    experiment: int
    block: int
    setting: int
    sample: Sample


@dataclass
class Record:
    """about: machine, versions, lane, seed, when. missing: by setting's word, why it was not measured."""

    about: dict[str, Any]
    experiments: list[Experiment]
    turns: list[Turn]
    missing: dict[str, str]

    def blocks(self, experiment: int) -> list[dict[int, Sample]]:
        """The samples of each block that counts, by setting; those that went wrong are left out."""
        found: dict[int, dict[int, Sample]] = {}
        for turn in self.turns:
            if turn.experiment == experiment and turn.block and not turn.sample.error:
                found.setdefault(turn.block, {})[turn.setting] = turn.sample
        return [found[block] for block in sorted(found)]

    def errors(self, experiment: int, setting: int) -> list[str]:
        """What went wrong with a setting."""
        return [
            turn.sample.error
            for turn in self.turns
            if (turn.experiment, turn.setting) == (experiment, setting) and turn.sample.error
        ]

    def series(self, experiment: int, setting: int, figure: str) -> list[float]:
        """All samples of a figure, in ms."""
        of_setting = [block[setting] for block in self.blocks(experiment) if setting in block]
        return [value(sample, figure) for sample in of_setting if has(sample, figure)]

    def pairs(self, experiment: int, one: int, other: int, figure: str) -> list[tuple[float, float]]:
        """The same figure of two settings from each block that has both, in ms."""
        blocks = [block for block in self.blocks(experiment) if one in block and other in block]
        both = [(block[one], block[other]) for block in blocks]
        return [(value(a, figure), value(b, figure)) for a, b in both if has(a, figure) and has(b, figure)]

    def itself(self, experiment: int, figure: str) -> list[tuple[float, float]]:
        """`pairs` of the first setting with itself, which tell the noise; none without such a setting."""
        noise = self.experiments[experiment].noise
        return self.pairs(experiment, 0, noise, figure) if noise else []

    def part_pairs(self, experiment: int, one: int, other: int, name: str) -> list[tuple[float, float]]:
        """As `pairs`, of a phase or a step. A phase that a pause lacks took none of it; a step of acquire is
        part of the pause only where that has acquire."""
        both = [(block[one], block[other]) for block in self.blocks(experiment) if {one, other} <= set(block)]
        return [
            (value(a, name), value(b, name)) for a, b in both if _has_part(a, name) and _has_part(b, name)
        ]

    def write(self, path: Path) -> None:
        """Write it, a line a sample."""
        head = json.dumps(_head(self.about, self.experiments, self.missing), indent=1)
        lines = ",\n".join(json.dumps(_turn(turn), separators=(",", ":")) for turn in self.turns)
        path.write_text(f'{head[:-2]},\n "turns": [\n{lines}\n]}}\n')

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises UsageError when `path` is no such record, nor the journal of one that is not finished."""
        try:
            if path.suffix == _PART:
                return cls._of_journal(path)
            data = json.loads(path.read_text())
            return cls._made(data, data["turns"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not a record of scripts/downtime: {error}.") from error

    @classmethod
    def _of_journal(cls, path: Path) -> Self:
        """A line that was cut off when the run was killed is left out."""
        first, *rest = path.read_text().splitlines()
        return cls._made(json.loads(first), (json.loads(line) for line in rest if line.endswith("}")))

    @classmethod
    def _made(cls, head: dict[str, Any], turns: Iterable[dict[str, Any]]) -> Self:
        if head["format"] != _FORMAT:
            raise ValueError(f"its format is {head['format']}, not {_FORMAT}")
        experiments = [
            Experiment(**{**one, "settings": tuple(Setting(**setting) for setting in one["settings"])})
            for one in head["experiments"]
        ]
        return cls(head["about"], experiments, [_read_turn(turn) for turn in turns], head["missing"])


def has(sample: Sample, figure: str) -> bool:
    """Whether the sample has a figure, a phase, or a step."""
    return any(figure in kind for kind in (sample.figures, sample.phases, sample.steps))


def _has_part(sample: Sample, name: str) -> bool:
    if name in PARTS:
        return bool(sample.phases)
    return has(sample, name) and "acquire" in sample.phases


def value(sample: Sample, figure: str) -> float:
    """That figure, phase or step of the sample, in ms; 0 if it has none."""
    return {**sample.steps, **sample.phases, **sample.figures}.get(figure, 0) / 1000


class Journal:
    """A record that is being made. `path` is where it will be; the journal is beside it until `finish`."""

    def __init__(self, path: Path, about: dict[str, Any], experiments: Sequence[Experiment]) -> None:
        self._path = path
        self._journal = path.with_name(path.name + _PART)
        self.record = Record(about, list(experiments), [], {})

    def resume(self) -> bool:
        """Go on with a journal of the same experiments, lane and builds, if there is one; its seed counts."""
        if not self._journal.exists():
            return False
        old = Record.read(self._journal)
        other = "of another benchmark" if old.experiments != self.record.experiments else ""
        for what in ("lane", "builds"):
            if old.about.get(what) != self.record.about.get(what):
                other = other or f"of {old.about.get(what)}, and not of {self.record.about.get(what)}"
        if other:
            raise UsageError(f"{self._journal} is {other}: finish that, remove it, or give another --json.")
        self.record = old
        self._rewrite()
        return True

    def begin(self, missing: dict[str, str]) -> None:
        """Write the head of a new journal."""
        self.record = replace(self.record, missing=missing)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()

    def _rewrite(self) -> None:
        """Write the journal anew: its last line may have been cut off, and the next must not continue it."""
        head = _head(self.record.about, self.record.experiments, self.record.missing)
        lines = [json.dumps(line) for line in (head, *map(_turn, self.record.turns))]
        new = self._journal.with_name(self._journal.name + ".new")
        new.write_text("\n".join([*lines, ""]))
        new.replace(self._journal)

    def add(self, turn: Turn) -> None:
        """Keep a sample, on disk as well."""
        self.record.turns.append(turn)
        with self._journal.open("a") as journal:
            journal.write(json.dumps(_turn(turn)) + "\n")

    def done(self) -> set[tuple[int, int, int]]:
        """Experiment, block and setting of each sample there is."""
        return {(turn.experiment, turn.block, turn.setting) for turn in self.record.turns}

    def finish(self) -> Record:
        """Write the record and drop the journal. A record that is there becomes NAME.before."""
        if self._path.exists():
            self._path.replace(self._path.with_name(self._path.name + ".before"))
        self.record.write(self._path)
        self._journal.unlink()
        return self.record


def _head(
    about: dict[str, Any], experiments: Sequence[Experiment], missing: dict[str, str]
) -> dict[str, Any]:
    listed = [asdict(one) for one in experiments]
    return {"format": _FORMAT, "about": about, "experiments": listed, "missing": missing}


def _turn(turn: Turn) -> dict[str, Any]:
    return {"at": [turn.experiment, turn.block, turn.setting], **turn.sample.as_json()}


def _read_turn(data: dict[str, Any]) -> Turn:
    experiment, block, setting = data["at"]
    return Turn(experiment, block, setting, Sample(**{k: v for k, v in data.items() if k != "at"}))
