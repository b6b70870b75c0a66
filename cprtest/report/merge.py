# SPDX-License-Identifier: GPL-2.0-or-later
"""From the journals of the lanes' Avocado jobs to one result per test.

Journals (cprtest/job/journal.py) are complete up to the moment their job ended, however it ended, so
what a dead job did not finish is known and becomes an error, never a success.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cprtest.errors import LAB_DIED
from cprtest.report.evidence import known_defect, promise_of
from cprtest.report.model import BAD, STATUSES, Result

_AVOCADO = {"INTERRUPTED": "INTERRUPT"}


@dataclass(frozen=True)
class Ended:
    """How the job of a lane ended. status: its exit status, None if nobody was there to see it.

    interrupted: by the user. error: what it said of itself, where its output passed through us.
    """

    lane: str
    status: int | None
    interrupted: bool
    error: str = ""

    def __str__(self) -> str:
        if self.status is None:
            how = "was last heard of"
        elif self.status < 0:
            how = f"was killed by signal {-self.status}"
        else:
            how = f"ended with status {self.status}"
        return f"the Avocado job of lane {self.lane} {how}"


@dataclass
class Journal:
    """What a job wrote down: the plan, what started, what ended."""

    lane: str = ""
    patience: float | None = None
    plan: list[dict[str, Any]] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    directory: Path = Path()


def read_journal(directory: Path) -> Journal | None:
    """The journal of the Avocado job under `directory`, or None when it never began.

    A line cut short by a kill is passed over.
    """
    paths = sorted(directory.glob("job-*/journal.jsonl"))
    if not paths:
        return None
    journal = Journal(directory=paths[-1].parent)
    for line in paths[-1].read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        match entry:
            case {"event": "plan", "tests": list(plan)}:
                journal.plan, journal.patience = plan, entry.get("patience")
                journal.lane = str(entry.get("lane", ""))
            case {"event": "start", "name": str(name)}:
                journal.started.add(name)
            case {"event": "end", "name": str(name)}:
                journal.ended[name] = entry
    return journal


def lane_results(ended: Ended, journal: Journal | None, expected: list[str], root: Path) -> list[Result]:
    """One result for every test of a lane.

    `expected`: the tests it was to run, for a job that died before it had a plan. `root`: the results
    directory.
    """
    if journal is None or not journal.plan:
        plan = [{"name": name, "tags": []} for name in expected]
        journal = Journal(plan=plan)
    results = []
    for planned in journal.plan:
        name = planned["name"]
        common = {
            "name": name,
            "lane": ended.lane,
            "promise": promise_of(name),
            "tags": tuple(planned["tags"]),
        }
        entry = journal.ended.get(name)
        if entry is not None:
            results.append(_from_entry(entry, common, journal.directory, root))
        elif ended.interrupted:
            results.append(Result(**common, status="INTERRUPT", reason="Interrupted by the user."))
        elif name in journal.started:
            results.append(Result(**common, status="ERROR", reason=f"It was running when {ended}."))
        else:
            results.append(Result(**common, status="INTERRUPT", reason=f"It had not begun when {ended}."))
    return [dataclasses.replace(r, reasons={ended.lane: r.reason} if r.reason else {}) for r in results]


def merged(here: list[Result], lab: list[Result]) -> list[Result]:
    """One result per test: the lab's replaces a CANCEL of here; cancelled in both keeps both reasons."""
    in_lab = {result.name: result for result in lab}
    results = [_better(result, in_lab.pop(result.name, None)) for result in here]
    known = {result.name.partition(";")[0] for result in here}
    return results + [result for name, result in in_lab.items() if name.partition(";")[0] not in known]


def problems(ended: Ended, results: list[Result]) -> list[str]:
    """What a lane's exit status says that its tests do not."""
    if ended.interrupted:
        return [f"Lane {ended.lane} was interrupted by the user."]
    if ended.status == LAB_DIED:
        return [f"A lab could not be started, or died. {ended.error or 'What it said is above.'}"]
    if ended.status != 0 and not any(result.status in BAD for result in results):
        return [f"No test failed in lane {ended.lane}, but {ended}."]
    return []


def _better(here: Result, lab: Result | None) -> Result:
    if lab is None or here.status != "CANCEL":
        return here
    reasons = {**here.reasons, **lab.reasons}
    if lab.status != "CANCEL":
        return dataclasses.replace(lab, reasons=reasons)
    both = " ".join(f"{lane}: {reason}" for lane, reason in reasons.items())
    return dataclasses.replace(lab, reasons=reasons, reason=both)


def _from_entry(entry: dict[str, Any], common: dict[str, Any], job: Path, root: Path) -> Result:
    directory = job / str(entry.get("directory", ""))
    status = _AVOCADO.get(entry["status"], entry["status"])
    reason = str(entry.get("reason") or "")
    defect, summary = known_defect(directory) if status == "WARN" else ("", "")
    if status not in STATUSES:
        status, reason = "ERROR", f"Avocado reports the unknown status {status}. {reason}"
    return Result(
        **common,
        status=status,
        duration=float(entry.get("duration") or 0.0),
        reason=summary or reason,
        kind=str(entry.get("kind") or ""),
        directory=str(directory.relative_to(root)),
        defect=defect,
    )
