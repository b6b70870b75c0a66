# SPDX-License-Identifier: GPL-2.0-or-later
"""Tries mutants in this lane: `python -m cprtest.mutants.worker PLAN NUMBER`.

PLAN is a JSON file: {"directory", "tries": [{"name", "mutant", "phase", "tests", "patience"}]}. Several
workers share one: each takes the next try that no other has taken. Worker NUMBER appends one line of JSON for
each try to verdicts-NUMBER.jsonl in the directory, at once, so that nothing is lost when the rest is stopped.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cprtest.job import lane
from cprtest.limits import patience
from cprtest.mutants import verdicts
from cprtest.mutants.catalogue import REFERENCE
from cprtest.mutants.verdicts import Checked, Verdict
from cprtest.report import merge
from cprtest.report.model import BAD, RAN_WELL, Result


def main(words: list[str]) -> int:
    """Try mutants until the plan is done. Returns 0 also when some survive: the verdict is the caller's."""
    plan_file, number = Path(words[0]), words[1]
    plan = json.loads(plan_file.read_text())
    directory = Path(plan["directory"])
    for attempt in _taken(plan["tries"], directory):
        found = _attempted(attempt, directory / attempt["name"])
        with (directory / f"{verdicts.PREFIX}{number}.jsonl").open("a") as file:
            file.writelines(json.dumps(asdict(line)) + "\n" for line in found)
        for line in found:
            if not (isinstance(line, Checked) and line.status == "clean"):
                print(line, flush=True)
    return 0


def _taken(tries: list[dict[str, Any]], directory: Path) -> Iterator[dict[str, Any]]:
    """The tries that are left for this worker: who makes the directory of a try has taken it."""
    for attempt in tries:
        try:
            (directory / attempt["name"]).mkdir()
        except FileExistsError:
            continue
        yield attempt


def _attempted(attempt: dict[str, Any], directory: Path) -> "list[Verdict] | list[Checked]":
    """Run the tests of one try: all on the reference, up to the first failure on a mutant."""
    reference = attempt["mutant"] == REFERENCE
    qemu = "mutants" if reference else f"mutants:{attempt['mutant']}"
    # "here" is where this process is, in the lab too.
    references = [lane.exactly(test) for test in attempt["tests"]]
    extra = () if reference else ("--failfast",)
    job = lane.Job("here", references, (), directory, {"qemu_bin": qemu}, extra)
    enough = patience() if reference else max(1.0, min(attempt["patience"], patience()))
    start = time.monotonic()
    with (directory / "avocado.log").open("wb") as log:
        status = subprocess.run(
            job.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            env={**os.environ, "CPRTEST_PATIENCE": f"{enough:.1f}"},
        ).returncode
    ended = merge.Ended("mutants", status, interrupted=False)
    results = merge.lane_results(ended, merge.read_journal(directory), attempt["tests"], directory)
    if reference:
        return [_checked(result, directory) for result in results]
    return [_verdict(attempt, results, directory, time.monotonic() - start)]


def _checked(result: Result, directory: Path) -> Checked:
    needed = directory / result.directory / "patience"
    status = "clean" if result.status in RAN_WELL else "cancelled" if result.status == "CANCEL" else "failed"
    return Checked(
        test=result.name,
        lane=os.environ.get("CPRTEST_LANE", "here"),
        status=status,
        message=result.reason,
        seconds=round(result.duration, 1),
        patience=float(needed.read_text()) if needed.exists() else 0.0,
    )


def _verdict(attempt: dict[str, Any], results: list[Result], directory: Path, seconds: float) -> Verdict:
    # After a failure --failfast leaves the rest undone, which counts as interrupted.
    failed = next((r for r in results if r.status in BAD and r.status != "INTERRUPT"), None)
    said = failed.reason if failed else ""
    name = attempt["mutant"]
    return Verdict(
        mutant=name,
        struck=_struck(name, directory),
        killed_by=failed.name if failed else "",
        message=said,
        phase_named=attempt["phase"] in verdicts.named_phases(said),
        tried=[r.name for r in results if r.status in (*RAN_WELL, "FAIL", "ERROR", "CANCEL")],
        seconds=round(seconds, 1),
    )


def _struck(name: str, directory: Path) -> bool:
    """Whether a QEMU said that the fault was reached."""
    word = f"cpr fault {name} strikes"
    results = [*directory.glob("job-*/test-results")]
    logs = [log for where in results for log in (*where.rglob("source.log"), *where.rglob("target.log"))]
    return any(word in log.read_text(errors="replace") for log in logs)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
