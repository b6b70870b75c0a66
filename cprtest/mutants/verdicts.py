# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of mutants and of the reference, and the files that hold it.

results/mutants/BUILD/mutants.jsonl has a line for each mutant that was tried, reference.jsonl one for each
test that was run on the mutants build without a fault. CACHE/killers.json tells which test killed a mutant
last, in whatever checkout: it comes first the next time.
"""

import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cprtest import paths

PREFIX = "verdicts-"
"""Of the files that workers write."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant.

    struck: the fault was reached (QEMU says so). killed_by: the test that failed (FILE:Class.method), or "".
    phase_named: its message names the mutant's phase. tried: tests that came to a verdict. seconds: of
    wall-clock time.
    """

    mutant: str
    struck: bool
    killed_by: str
    message: str
    phase_named: bool
    tried: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        """Whether a test failed."""
        return bool(self.killed_by)

    @property
    def killer(self) -> str:
        """The test that failed, as Class.method."""
        return self.killed_by.rpartition(":")[2]

    def after(self, before: "Verdict") -> "Verdict":
        """Both together: a survivor of some tests was tried with more."""
        return Verdict(
            self.mutant,
            self.struck or before.struck,
            self.killed_by,
            self.message,
            self.phase_named,
            list(dict.fromkeys([*before.tried, *self.tried])),
            round(self.seconds + before.seconds, 1),
        )

    def __str__(self) -> str:
        fate = f"killed by {self.killer}" if self.killed else "survived"
        return f"{self.mutant}: {fate}{'' if self.struck else ', not reached'} ({self.seconds:.0f} s)"


@dataclass(frozen=True)
class Checked:
    """How a test ended on the reference in a lane: clean, failed, or cancelled for what the lane lacks.

    seconds: that it took. patience: what it really needed (cprtest.limits).
    """

    test: str
    lane: str
    status: str
    message: str
    seconds: float
    patience: float

    def __str__(self) -> str:
        said = f": {self.message}" if self.status == "failed" else ""
        return f"{self.test}: {self.status} on the reference{said}"


def named_phases(message: str) -> set[str]:
    """The phases that a failure blames (cprtest.timeline.timeline.tag)."""
    return {name for found in re.findall(r"\[phase ([a-z, ]+)\]", message) for name in found.split(", ")}


class Book:
    """The files of one build, in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._verdicts = root / "mutants.jsonl"
        self._reference = root / "reference.jsonl"
        self.collect()

    def verdicts(self) -> dict[str, Verdict]:
        """By mutant."""
        return {entry["mutant"]: Verdict(**entry) for entry in _lines(self._verdicts)}

    def reference(self) -> list[Checked]:
        """One for each test and lane."""
        found = [Checked(**entry) for entry in _lines(self._reference)]
        return list({(line.test, line.lane): line for line in found}.values())

    def collect(self) -> None:
        """Take over what workers wrote, those of a run that was killed, too. Remembers killers."""
        known = self.verdicts()
        new = []
        for path in sorted(self.root.glob(f"*/{PREFIX}*.jsonl")):
            for entry in _lines(path):
                if "mutant" not in entry:
                    _append(self._reference, [entry])
                    continue
                verdict = Verdict(**entry)
                if before := known.get(verdict.mutant):
                    verdict = verdict.after(before)
                known[verdict.mutant] = verdict
                new.append(verdict)
            path.unlink()
        _append(self._verdicts, [asdict(verdict) for verdict in new])
        if killers := {verdict.mutant: verdict.killed_by for verdict in new if verdict.killed}:
            _remember(known_killers() | killers)

    def forget(self, mutants: Iterable[str]) -> None:
        """Drop the verdicts on `mutants`, and all on the reference, which tests may find different now."""
        names = set(mutants)
        kept = [asdict(verdict) for name, verdict in self.verdicts().items() if name not in names]
        self._verdicts.unlink(missing_ok=True)
        self._reference.unlink(missing_ok=True)
        _append(self._verdicts, kept)


def known_killers() -> dict[str, str]:
    """The test that killed each mutant last."""
    try:
        return {str(name): str(test) for name, test in json.loads(_killers().read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _killers() -> Path:
    return paths.cache_dir() / "killers.json"


def _remember(killers: dict[str, str]) -> None:
    with tempfile.NamedTemporaryFile("w", dir=paths.cache_dir(), delete=False) as file:
        json.dump(killers, file)
    Path(file.name).replace(_killers())


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; one cut short by a kill is passed over."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _append(path: Path, entries: list[dict[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)
