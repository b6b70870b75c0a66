# SPDX-License-Identifier: GPL-2.0-or-later
"""FaultTest: a functional test that is a table of fault cases. cases.json says what became of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cprtest.campaign import Campaign, Case, CaseResult, Load
from cprtest.defects import Defect
from cprtest.test import CprTest


class FaultTest(CprTest):
    """Base of tests that strike many times. A case that fails keeps none of the others from running."""

    def campaign(self, *, followed: bool = True, load: Load | None = None, **guest: Any) -> Campaign:
        """Cases one after the other on guests made with `guest` (as for boot; a small disk by default)."""
        disk = guest.setdefault("disk", True)

        def boot() -> Any:
            given = {**guest, "disk": self.disk() if guest["disk"] is True else guest["disk"] or None}
            return self.boot(**given)

        directory = Path(self.logdir)
        return Campaign(self.bed, boot, directory, disk=bool(disk), followed=followed, load=load)

    def strike(self, cases: Sequence[Case], campaign: Campaign | None = None) -> None:
        """Run `cases` and judge them together, known defects told from failures."""
        campaign = campaign or self.campaign()
        results = campaign.run(cases)
        defects = self.defects()
        unmet = [self._judged_case(result, defects) for result in results]
        struck = [result for result in results if result.status != "SKIP"]
        self.log.info("%s", summary(results))
        if not struck:
            self.cancel(f"none of the {len(results)} cases can strike in this QEMU: {results[0].message}.")
        failures = [*(text for text in unmet if text), *self.no_longer(self._not_met(defects, results))]
        if failures:
            self.fail(f"{len(failures)} of {len(struck)} fault cases: " + "\n".join(failures))

    def _judged_case(self, result: CaseResult, defects: Sequence[Defect]) -> str:
        """What is to be said of a case that did not end as it should; empty where all is well."""
        known = [defect for defect in defects if defect.covers(self.promise, result.name)]
        if result.status in ("FAIL", "ERROR"):
            defect = next((defect for defect in known if defect.explains(result.message)), None)
            if defect is None:
                return f"{result.name}: {result.status}: {result.message}"
            result.status, result.known_defect = "WARN", defect.id
            self.warn(defect, f"{result.name}: {result.message}")
        return ""

    def _not_met(self, defects: Sequence[Defect], results: Sequence[CaseResult]) -> list[Defect]:
        """The defects that no case met. One case may miss it, as timing has it; all of them do not."""
        ran = [result for result in results if result.status != "SKIP"]
        return [
            defect
            for defect in defects
            if any(defect.covers(self.promise, result.name) for result in ran)
            and not any(result.known_defect == defect.id for result in ran)
        ]


def summary(results: Sequence[CaseResult]) -> str:
    """One line of figures: cases, their rate, the time from strike to resume."""
    seconds = sum(result.seconds for result in results)
    rolled = sorted(r.rollback_ms for r in results if r.rollback_ms is not None)
    counts = {
        status: sum(r.status == status for r in results)
        for status in ("PASS", "WARN", "FAIL", "ERROR", "SKIP")
    }
    told = " ".join(f"{status} {count}" for status, count in counts.items())
    rate = f"{60 * len(results) / seconds:.0f} a minute" if seconds else "no time"
    times = (
        f"; strike to resume: median {rolled[len(rolled) // 2]:.1f} ms, most {rolled[-1]:.1f} ms"
        if rolled
        else ""
    )
    return f"fault cases: {told}; {rate}{times} ({len(rolled)} measured)"
