# SPDX-License-Identifier: GPL-2.0-or-later
"""Tries mutants one after the other in this lane: `python -m cprtest.mutants.worker PLAN`.

PLAN is a JSON file: {"directory", "results", "tries": [{"mutant", "phase", "tests"}]}. One line of JSON is
appended to `results` for each try, at once, so that nothing is lost when the rest is stopped.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cprtest.job import lane
from cprtest.mutants.catalogue import REFERENCE
from cprtest.report import merge
from cprtest.report.model import BAD, Result


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant.

    struck: the fault was reached (QEMU says so). killed_by: the test that failed, or "". phase_named: its
    message names the mutant's phase. ran: tests that came to a verdict. seconds: of wall-clock time.
    """

    mutant: str
    struck: bool
    killed_by: str
    message: str
    phase_named: bool
    ran: int
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether a test failed."""
        return bool(self.killed_by)


def main(words: list[str]) -> int:
    """Try all mutants of a plan. Returns 0 also when some survive: the verdict is the caller's."""
    plan = json.loads(Path(words[0]).read_text())
    for attempt in plan["tries"]:
        verdict = attempted(attempt, Path(plan["directory"]) / attempt["mutant"])
        with Path(plan["results"]).open("a") as results:
            results.write(json.dumps(asdict(verdict)) + "\n")
        fate = f"killed by {verdict.killed_by}" if verdict.killed else "survived"
        reached = "" if verdict.struck or attempt["mutant"].startswith(REFERENCE) else ", not reached"
        print(f"{attempt['mutant']}: {fate}{reached} ({verdict.seconds:.0f} s)", flush=True)
    return 0


def attempted(attempt: dict[str, Any], directory: Path) -> Verdict:
    """Run the tests of one try up to the first failure."""
    name = attempt["mutant"]
    qemu = "mutants" if name.startswith(REFERENCE) else f"mutants:{name}"
    references = [lane.exactly(test) for test in attempt["tests"]]
    # "here" is where this process is, in the lab too.
    job = lane.Job("here", references, (), directory, {"qemu_bin": qemu}, ("--failfast",))
    directory.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with (directory / "avocado.log").open("wb") as log:
        status = subprocess.run(
            job.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        ).returncode
    ended = merge.Ended("mutants", status, interrupted=False)
    results = merge.lane_results(ended, merge.read_journal(directory), attempt["tests"], directory)
    return _verdict(name, attempt["phase"], results, directory, time.monotonic() - start)


def _verdict(name: str, phase: str, results: list[Result], directory: Path, seconds: float) -> Verdict:
    # After a failure --failfast leaves the rest undone, which counts as interrupted.
    failed = next((r for r in results if r.status in BAD and r.status != "INTERRUPT"), None)
    said = failed.reason if failed else ""
    return Verdict(
        mutant=name,
        struck=_struck(name, directory),
        killed_by=failed.name.rpartition(":")[2] if failed else "",
        message=said,
        phase_named=phase in named_phases(said),
        ran=sum(r.status in ("PASS", "WARN", "FAIL", "ERROR") for r in results),
        seconds=round(seconds, 1),
    )


def named_phases(message: str) -> set[str]:
    """The phases that a failure blames (cprtest.timeline.timeline.tag)."""
    return {name for found in re.findall(r"\[phase ([a-z, ]+)\]", message) for name in found.split(", ")}


def _struck(name: str, directory: Path) -> bool:
    """Whether a QEMU said that the fault was reached."""
    word = f"cpr fault {name} strikes"
    logs = [
        *directory.glob("job-*/test-results/**/source.log"),
        *directory.glob("job-*/test-results/**/target.log"),
    ]
    return any(word in log.read_text(errors="replace") for log in logs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
