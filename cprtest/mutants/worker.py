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
from dataclasses import asdict, replace
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
    """Run the tests of one try: all on the reference, up to the first kill on a mutant."""
    if attempt["mutant"] == REFERENCE:
        return [_checked(result, directory) for result in _run("mutants", attempt["tests"], directory)]
    start = time.monotonic()
    enough = max(1.0, min(attempt["patience"], patience()))
    results: list[Result] = []
    left = attempt["tests"]
    while left:
        # A job that stopped at a failure goes on with the rest if that was not this fault's doing.
        where = directory / f"from-{len(results)}"
        new = _run(f"mutants:{attempt['mutant']}", left, where, "--failfast", enough=enough)
        # What --failfast leaves undone counts as interrupted.
        done = [replace(r, directory=str(where / r.directory)) for r in new if r.status != "INTERRUPT"]
        results += done
        if not done or (done[-1].status in BAD and _struck(attempt["mutant"], [done[-1]])):
            break
        left = left[len(done) :]
    return [_verdict(attempt, results, time.monotonic() - start)]


def _run(
    qemu: str, tests: list[str], directory: Path, *extra: str, enough: float | None = None
) -> list[Result]:
    """Run tests in this lane, with `enough` patience; by default, that of the lane."""
    # "here" is where this process is, in the lab too.
    job = lane.Job("here", [lane.exactly(test) for test in tests], (), directory, {"qemu_bin": qemu}, extra)
    directory.mkdir(exist_ok=True)
    with (directory / "avocado.log").open("wb") as log:
        status = subprocess.run(
            job.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            env={**os.environ, "CPRTEST_PATIENCE": f"{enough or patience():.1f}"},
        ).returncode
    ended = merge.Ended("mutants", status, interrupted=False)
    return merge.lane_results(ended, merge.read_journal(directory), tests, directory)


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


def _verdict(attempt: dict[str, Any], results: list[Result], seconds: float) -> Verdict:
    name = attempt["mutant"]
    # A test that fails where the fault was not reached has not noticed it.
    failed = [result for result in results if result.status in BAD]
    killer = next((result for result in failed if _struck(name, [result])), None)
    for result in failed:
        if result is not killer:
            print(f"{name}: {result.name} failed without the fault: {result.reason}", flush=True)
    said = killer.reason if killer else ""
    return Verdict(
        mutant=name,
        struck=_struck(name, results),
        killed_by=killer.name if killer else "",
        message=said,
        phase_named=attempt["phase"] in verdicts.named_phases(said),
        tried=[result.name for result in results],
        seconds=round(seconds, 1),
    )


def _struck(name: str, results: list[Result]) -> bool:
    """Whether a QEMU of one of these tests said that the fault was reached."""
    word = f"cpr fault {name} strikes"
    where = [Path(result.directory) for result in results]
    logs = [log for each in where for log in (*each.rglob("source.log"), *each.rglob("target.log"))]
    return any(word in log.read_text(errors="replace") for log in logs)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
