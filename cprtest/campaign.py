# SPDX-License-Identifier: GPL-2.0-or-later
"""Many fault cases on one guest: what one leaves is where the next begins.

A source that rolled back hands its guest over once more, without a fault; the target is the next case's
source. So every case proves that the next transfer succeeds, and a roll-back is repeated on the same guest.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cprtest.aftermath import Aftermath, Expected, Floor
from cprtest.bed import TestBed
from cprtest.blame import blame
from cprtest.errors import CprError
from cprtest.faults.fault import Fault
from cprtest.guest.guest import Guest
from cprtest.machine.features import features
from cprtest.workloads.data import SmallData

Check = Callable[[], object]
"""Raises AssertionError when the guest is not as it should be."""
Load = Callable[[Guest], Check]


@dataclass(frozen=True)
class Case:
    """A fault and how it has to end. needs: features of the QEMU without which the fault cannot strike.

    before: what is done to the guest first. after: what is asserted of the guest, before its data is.
    restore: what takes back what else would outlive the case, however it ends.
    """

    fault: Fault
    expected: Expected = field(default_factory=Expected)
    needs: tuple[str, ...] = ()
    before: Callable[[Guest], object] | None = None
    after: Callable[[Guest], object] | None = None
    restore: Callable[[], object] = lambda: None

    @property
    def name(self) -> str:
        """The case's name is its fault's."""
        return self.fault.name


@dataclass
class CaseResult:
    """What became of a case: PASS, FAIL, ERROR, WARN (a known defect) or SKIP; seconds of wall-clock time."""

    name: str
    status: str
    message: str = ""
    seconds: float = 0.0
    rollback_ms: float | None = None
    evidence: str = ""
    directory: str = ""
    known_defect: str | None = None


class Campaign:
    """Runs cases one after the other. boot: makes a guest in a bed that has none.

    followed: whether each case that was rolled back is followed by a transfer that has to succeed. load: puts
    load on a guest that was booted, and gives back what judges it after each transfer.
    """

    def __init__(
        self,
        bed: TestBed,
        boot: Callable[[], Guest],
        directory: Path,
        *,
        disk: bool = True,
        followed: bool = True,
        load: Load | None = None,
    ) -> None:
        self._bed = bed
        self._boot = boot
        self._file = directory / "cases.json"
        self._earlier = json.loads(self._file.read_text()) if self._file.exists() else []
        self._disk = disk
        self._followed = followed
        self._load = load
        self._guest: Guest | None = None
        self._checks: list[Check] = []
        self.results: list[CaseResult] = []

    def run(self, cases: Sequence[Case]) -> list[CaseResult]:
        """Run `cases`; none keeps the next from running."""
        for case in cases:
            self.results.append(self._one(case))
            self._write()
        return self.results

    def transfer(self, fault: Fault | None = None) -> Any:
        """One transfer of the campaign's guest, as a case would make it."""
        return self._bed.transfer(self._ready(), fault=fault)

    def _one(self, case: Case) -> CaseResult:
        offered = features(self._bed.qemu.binary)
        lacking = [word for word in case.needs if not offered.has(word)]
        if lacking:
            return CaseResult(case.name, "SKIP", f"this QEMU has no {', '.join(lacking)}")
        result = CaseResult(case.name, "PASS")
        start = time.monotonic()
        transfers = len(self._bed.outcomes)
        try:
            self._strike(case)
        except AssertionError as failure:
            result.status, result.message = "FAIL", self._describe(failure, transfers)
        except (CprError, OSError, ValueError) as error:
            result.status, result.message = "ERROR", self._describe(error, transfers)
        finally:
            case.restore()
        if result.status != "PASS" or case.expected.ends == "lost":
            self._restart()
        result.seconds = round(time.monotonic() - start, 2)
        for outcome in self._bed.outcomes[transfers : transfers + 1]:
            result.directory = outcome.directory.name
            for fault in outcome.faults:
                result.evidence = fault["evidence"]
                result.rollback_ms = fault["rollback_ns"] / 1e6 if fault["rollback_ns"] else None
        return result

    def _describe(self, failure: BaseException, transfers: int) -> str:
        """The failure, the phase to blame, and how both QEMUs of the last transfer are.

        transfers: how many there had been before this case.
        """
        last = self._bed.transfers[-1:]
        ends = [f"{m.actor} {m.gone() or m.last_words()}" for t in last for m in (t.source, t.target)]
        found = (
            None
            if "[phase " in str(failure)
            else blame(self._bed.outcomes[transfers:], getattr(failure, "phase", "rollback"))
        )
        return "\n".join([f"{type(failure).__name__}: {failure}{f' {found}' if found else ''}", *ends])

    def _strike(self, case: Case) -> None:
        guest = self._ready()
        if case.before:
            case.before(guest)
        floor = Floor.of(guest.machine)
        outcome = self._bed.transfer(guest, fault=case.fault)
        outcome.checks.append({"name": case.name, "ok": True, "message": ""})
        after = case.after
        checks = [*([lambda: after(guest)] if after else []), *self._checks]
        try:
            Aftermath(case.expected, floor, checks).judge(outcome)
            if self._followed and outcome.survivor != "target" and case.expected.ends != "lost":
                self._next_succeeds(guest)
        except (AssertionError, CprError) as failure:
            outcome.checks[-1].update(ok=False, message=str(failure))
            raise
        finally:
            outcome.write()

    def _next_succeeds(self, guest: Guest) -> None:
        """The transfer after one that failed completes (C-31)."""
        try:
            self._bed.transfer(guest).assert_completed()
            for check in self._checks:
                check()
        except (AssertionError, CprError) as failure:
            raise AssertionError(f"the transfer after the one that failed: {failure}") from failure

    def _ready(self) -> Guest:
        """The guest, booted if there is none."""
        if self._guest is None:
            self._guest = self._boot()
            self._checks = [SmallData(self._guest, disk=self._disk).check]
            if self._load:
                self._checks.append(self._load(self._guest))
        return self._guest

    def _restart(self) -> None:
        """After a failure nothing is known of the guest: the next case gets a fresh one."""
        self._bed.end_guests()
        self._guest = None

    def _write(self) -> None:
        rows = [*self._earlier, *(asdict(result) for result in self.results)]
        self._file.write_text(json.dumps(rows, indent=1) + "\n")
