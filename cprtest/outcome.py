# SPDX-License-Identifier: GPL-2.0-or-later
"""How a transfer ended, judged from both processes and not from what QEMU says of itself."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cprtest.machine.process import Machine
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline, tag

# survivor -> status
STATUS = {"target": "completed", "source": "rolled-back", "none": "lost", "both": "split"}


@dataclass
class Outcome:
    """The result of one transfer.

    survivor: the side that has the guest in the run state it had before (source, target, none, both).
    was: the guest's run state before; since: when the transfer began (ns, monotonic); traced: bytes of the
    source's trace that are older.
    states: run state of both sides when everything had settled (None: the process is gone). reported:
    what QEMU's query-migrate says on the source, and its error text. pages: of guest memory that the source
    says it sent. meant_to_fail: a failure was injected, or the test expects one.
    """

    source: Machine
    target: Machine
    timeline: Timeline
    directory: Path
    states: dict[str, str | None]
    was: str
    since: int
    survivor: str
    reported: str
    error: str
    messages: dict[str, str]
    traced: int = 0
    refusal: str = ""
    """Why `migrate` itself was refused, in QEMU's words."""
    checks: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    known_defect: str | None = None
    pages: int = 0
    meant_to_fail: bool = False

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

    def first(self, actor: str, name: str, text: str = "") -> Event | None:
        """The first event `name` of `actor` whose text contains `text`."""
        events = (e for e in self.timeline.events if e.actor == actor and e.name == name)
        return next((e for e in events if text in str(e.data.get("text", ""))), None)

    def rollback_ns(self, since: int | None) -> int | None:
        """ns from `since` (a fault's strike) until the source resumed the guest; None if it did not."""
        resumed = [e.t for e in self.timeline.events if e.actor == "source" and e.name == "RESUME"]
        return resumed[-1] - since if resumed and since is not None else None

    def assert_refused(self) -> None:
        """`migrate` was refused, and the source has run the guest all the time."""
        stopped = any(e.actor == "source" and e.name == "STOP" for e in self.timeline.events)
        if self.survivor != "source" or stopped or not self.refusal:
            reached = tag(self.timeline.last() or "stop")
            raise AssertionError(
                f"migrate should be refused before anything happens; {self.describe()} {reached}"
            )

    def _assert(self, survivor: str, *reported: str) -> None:
        self.meant_to_fail = survivor == "source"
        message = ""
        if self.survivor != survivor:
            has = "have" if self.survivor == "both" else "has"
            message = f"expected the {survivor} to have the guest, and {self.survivor} {has} it"
        elif self.reported not in reported:
            phase = "complete" if survivor == "target" else "rollback"
            message = f"the {survivor} has the guest, but the source reports {self.reported} {tag(phase)}"
        else:
            message = self._resumed_once(survivor) or self._told(survivor)
        self.checks.append({"name": f"survivor is {survivor}", "ok": not message, "message": message})
        self.write()
        if message:
            raise AssertionError(f"{message}; {self.describe()}")

    def _resumed_once(self, survivor: str) -> str:
        """A sentence if a side resumed the guest that should not, or the survivor did so too often."""
        count = {
            (side, name): sum(event.actor == side and event.name == name for event in self.timeline.events)
            for side in ("source", "target")
            for name in ("STOP", "RESUME")
        }
        other = "source" if survivor == "target" else "target"
        if count[other, "RESUME"]:
            return f"the {survivor} has the guest, but the {other} had resumed it, too"
        wanted = count["source", "STOP"] if survivor == "source" else 1
        if count[survivor, "RESUME"] > wanted:
            phase = tag("resume" if survivor == "target" else "rollback")
            return f"the {survivor} resumed the guest {count[survivor, 'RESUME']} times {phase}"
        return ""

    def _told(self, survivor: str) -> str:
        """A sentence if QEMU keeps the reason of a failure to itself, or sent memory that is shared."""
        failed, resumed = self._times("migration_cpr_failed"), self._times("migration_cpr_resume")
        if survivor == "source" and failed and resumed and resumed[0] < failed[-1]:
            return f"the source resumed the guest before all devices knew of the failure {tag('rollback')}"
        if survivor == "source" and self.reported == "failed" and not self.error:
            return f"the transfer failed, and the source does not say why {tag('rollback')}"
        if survivor == "target" and self.pages:
            return f"the source sent {self.pages} pages of memory that is shared {tag('stream')}"
        return ""

    def assert_notified_once(self) -> None:
        """Each tap and vhost device that was told to let go was told of the failure, once.

        For guests without passthrough devices, whose SETUP leaves no trace.
        """
        told = len(self._times("tap_cpr_freeze")) + len(self._times("vhost_cpr_release"))
        failed = len(self._times("migration_cpr_failed"))
        if failed != told:
            raise AssertionError(
                f"{told} devices of the source heard SETUP, and FAILED was called {failed} times "
                f"{tag('rollback')}; evidence in {self.directory}"
            )

    def _times(self, name: str) -> list[int]:
        """When the source traced `name`."""
        return [event.t for event in self.timeline.events if event.actor == "source" and event.name == name]

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
            "faults": self.faults,
            "checks": self.checks,
            "known_defect": self.known_defect,
            "states": self.states,
            "reported": self.reported,
            "error": self.error,
        }
        (self.directory / "outcome.json").write_text(json.dumps(data, indent=1) + "\n")
