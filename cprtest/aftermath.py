# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold after every fault: one procedure for all of them (DESIGN.md, invariants)."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, wait_until
from cprtest.machine.process import Machine
from cprtest.observe import proc
from cprtest.outcome import Outcome
from cprtest.timeline.timeline import tag

_KEPT: dict[str, Callable[[int], Counter[str]]] = {
    "descriptors": proc.descriptors,
    "threads": proc.threads,
    "shared memory (KiB)": proc.shared_memory,
    "locks": lambda pid: Counter(proc.locks(pid)),
}


@dataclass(frozen=True)
class Floor:
    """What a QEMU holds of the host: the same before a transfer and after one that failed."""

    held: dict[str, Counter[str]]

    @classmethod
    def of(cls, machine: Machine) -> "Floor":
        """What `machine` holds now."""
        return cls({name: look(machine.pid) for name, look in _KEPT.items()})

    def differences(self, after: "Floor") -> list[str]:
        """A sentence for each kind of thing of which `after` has more or less."""
        found = []
        for name, before in self.held.items():
            more, less = after.held[name] - before, before - after.held[name]
            if more or less:
                said = [
                    f"{sign}{n} {what}" for sign, c in (("+", more), ("-", less)) for what, n in c.items()
                ]
                found.append(f"{name}: {', '.join(said)}")
        return found

    def assert_kept(self, machine: Machine) -> None:
        """Wait until `machine` holds what it held. Raises AssertionError with the differences."""
        try:
            wait_until("the source's floor to be clean", lambda: not self.differences(Floor.of(machine)), 3)
        except TimeLimit:
            left = "; ".join(self.differences(Floor.of(machine)))
            raise AssertionError(
                f"the failed transfer changed what the source holds: {left} {tag('rollback')}"
            ) from None


@dataclass(frozen=True)
class Expected:
    """How a transfer with a fault has to end.

    ends: rolled-back, completed or lost (the source itself was killed). reported: the statuses that
    query-migrate may give. error: a regular expression that QEMU's error must contain; the empty one also
    asks for no error at all where the transfer completes.
    """

    ends: str = "rolled-back"
    reported: tuple[str, ...] = ("failed",)
    error: str = ""


@dataclass
class Aftermath:
    """Judges one transfer with a fault. `checks`: what each workload asserts; called on the survivor."""

    expected: Expected
    floor: Floor
    checks: list[Callable[[], object]] = field(default_factory=list)

    def judge(self, outcome: Outcome) -> None:
        """Raises AssertionError, naming the phase, when an invariant does not hold."""
        if self.expected.ends == "lost":
            self._lost(outcome)
            return
        if self.expected.ends == "completed":
            outcome.assert_completed()
        else:
            outcome.assert_rolled_back()
        self._truthful(outcome)
        if self.expected.ends == "rolled-back":
            self.floor.assert_kept(outcome.source)
        for check in self.checks:
            self._in_phase("rollback" if self.expected.ends == "rolled-back" else "resume", check)

    def _lost(self, outcome: Outcome) -> None:
        """The source was killed before the target had the guest: it must not run half a guest, and end."""
        if outcome.survivor != "none":
            raise AssertionError(
                f"nobody can have the guest, and {outcome.survivor} has it; {outcome.describe()}"
            )
        try:
            wait_until("the target to give up", outcome.target.exit, 10)
        except TimeLimit as error:
            raise AssertionError(f"{error}; {outcome.describe()} {tag('acquire')}") from None

    def _truthful(self, outcome: Outcome) -> None:
        expected = self.expected
        if outcome.reported not in expected.reported:
            raise AssertionError(
                f"QEMU should report {' or '.join(expected.reported)}; {outcome.describe()} {tag('rollback')}"
            )
        if not re.search(expected.error, outcome.error) or (
            "failed" in outcome.reported and not outcome.error
        ):
            raise AssertionError(
                f"the error should say /{expected.error}/, and says {outcome.error!r}; "
                f"{outcome.describe()} {tag('rollback')}"
            )

    @staticmethod
    def _in_phase(phase: str, check: Callable[[], object]) -> None:
        try:
            check()
        except (AssertionError, CprError) as error:
            raise AssertionError(f"{error} {tag(phase)}") from error
