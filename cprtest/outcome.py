# SPDX-License-Identifier: GPL-2.0-or-later
"""How a transfer ended, judged from both processes and not from what QEMU says of itself."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cprtest.machine.process import Machine
from cprtest.timeline.timeline import Timeline

# survivor -> status
STATUS = {"target": "completed", "source": "rolled-back", "none": "lost", "both": "split"}


@dataclass
class Outcome:
    """The result of one transfer.

    survivor: the side that has the guest in the run state it had before (source, target, none, both).
    states: run state of both sides when everything had settled (None: the process is gone). reported:
    what QEMU's query-migrate says on the source, and its error text.
    """

    source: Machine
    target: Machine
    timeline: Timeline
    directory: Path
    states: dict[str, str | None]
    survivor: str
    reported: str
    error: str
    messages: dict[str, str]
    checks: list[dict[str, Any]] = field(default_factory=list)
    known_defect: str | None = None

    @property
    def status(self) -> str:
        """completed, rolled-back, lost or split."""
        return STATUS[self.survivor]

    def assert_completed(self) -> None:
        """The target has the guest, the source does not, and QEMU says so too."""
        self._assert("target", "completed")

    def assert_rolled_back(self) -> None:
        """The source has the guest again, the target does not, and QEMU reports a failure."""
        self._assert("source", "failed", "cancelled")

    def _assert(self, survivor: str, *reported: str) -> None:
        message = ""
        if self.survivor != survivor:
            message = f"expected the {survivor} to have the guest, and {self.survivor} has it"
        elif self.reported not in reported:
            message = f"the {survivor} has the guest, but the source reports {self.reported}"
        self.checks.append({"name": f"survivor is {survivor}", "ok": not message, "message": message})
        self.write()
        if message:
            raise AssertionError(f"{message}; {self.describe()}")

    def describe(self) -> str:
        """One line of what was seen, and where the evidence lies."""
        sides = "; ".join(
            f"{side}: {self.states[side] or self.messages[side]}" for side in ("source", "target")
        )
        order = " < ".join(self.timeline.order()) or "none"
        error = f" ({self.error})" if self.error else ""
        reported = f"QEMU reports {self.reported}{error}"
        return f"{sides}; {reported}; phases seen: {order}; evidence in {self.directory}"

    def write(self) -> None:
        """Write outcome.json and the timeline's files."""
        data = {
            "status": self.status,
            "survivor": self.survivor,
            "faults": [],
            "checks": self.checks,
            "known_defect": self.known_defect,
            "states": self.states,
            "reported": self.reported,
            "error": self.error,
        }
        (self.directory / "outcome.json").write_text(json.dumps(data, indent=1) + "\n")
