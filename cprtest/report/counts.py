# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit and functional tests counted together, for CI: `python -m cprtest.report.counts DIR`.

DIR holds pytest.xml (pytest --junitxml) and smoke/results.json. Standard library only: it also counts
when set-up failed. The exit status is 1 if anything failed.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Counts:
    """passed has known defects (WARN) too, failed errors and interrupts, skipped what was cancelled."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def of_pytest(path: Path) -> Counts:
    """The counts in a JUnit file of pytest. A file that is missing or broken is a failure."""
    try:
        suites = list(ET.parse(path).getroot().iter("testsuite"))
        total, failed, errors, skipped = (
            sum(int(suite.get(name, "0")) for suite in suites)
            for name in ("tests", "failures", "errors", "skipped")
        )
    except (OSError, ET.ParseError, ValueError):
        return Counts(failed=1)
    bad = failed + errors
    return Counts(total - bad - skipped, bad, skipped)


def of_run(path: Path) -> Counts:
    """The counts in a results.json. A run that is not a success has at least one failure."""
    try:
        data = json.loads(path.read_text())
        counts = data["counts"]
        bad = counts["FAIL"] + counts["ERROR"] + counts["INTERRUPT"]
        if not bad and data["exit_status"]:
            bad = 1
        return Counts(counts["PASS"] + counts["WARN"], bad, counts["CANCEL"] + counts["SKIP"])
    except (OSError, ValueError, KeyError, TypeError):
        return Counts(failed=1)


def main(directory: Path) -> int:
    """Print each count and the sum."""
    parts = {
        "unit tests": of_pytest(directory / "pytest.xml"),
        "smoke": of_run(directory / "smoke" / "results.json"),
    }
    for name, counts in parts.items():
        print(f"{name}: {counts}")
    total = sum(parts.values(), Counts())
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
