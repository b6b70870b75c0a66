# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold after every fault: one procedure for all of them (DESIGN.md, invariants)."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cprtest.errors import CprError, Damage
from cprtest.limits import TimeLimit, wait_until
from cprtest.machine.process import Machine
from cprtest.observe import proc
from cprtest.observe.trace import read_trace
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

    ends: rolled-back; completed; either (of the two); any (or in-doubt); refused (nothing had happened yet);
    lost (the source itself ended); held (the source cannot run the guest: io-error); in-doubt (the target may
    have the guest: postmigrate). reported: the statuses that query-migrate may give. error: a regular
    expression that its error must contain.
    """

    ends: str = "rolled-back"
    reported: tuple[str, ...] = ("failed",)
    error: str = ""


@dataclass
class Aftermath:
    """Judges one transfer with a fault. `checks`: what is asserted of guest and workloads."""

    expected: Expected
    floor: Floor
    checks: list[Callable[[], object]] = field(default_factory=list)

    def judge(self, outcome: Outcome) -> None:
        """Raises AssertionError, naming the phase, when an invariant does not hold."""
        ends = self.expected.ends
        if ends in ("either", "any"):
            doubt = ends == "any" and outcome.survivor == "none"
            ends = "completed" if outcome.survivor == "target" else "in-doubt" if doubt else "rolled-back"
        getattr(self, f"_{ends.replace('-', '_')}")(outcome)
        if ends != "lost":
            for check in self.checks:
                (self._handed_over if ends == "completed" else self._back)(check)

    def _completed(self, outcome: Outcome) -> None:
        outcome.assert_completed()

    def _rolled_back(self, outcome: Outcome) -> None:
        outcome.assert_rolled_back()
        self._truthful(outcome)
        self._given_up(outcome)
        self.floor.assert_kept(outcome.source)

    def _refused(self, outcome: Outcome) -> None:
        outcome.assert_refused()
        self.floor.assert_kept(outcome.source)

    def _lost(self, outcome: Outcome) -> None:
        """The source ended before the target had the guest: that one must not run half a guest."""
        if outcome.states["source"] is not None or outcome.states["target"] not in (None, "", "inmigrate"):
            raise AssertionError(f"nobody can have the guest; {outcome.describe()} {tag('resume')}")

    def _held(self, outcome: Outcome) -> None:
        """The source has lost its images, and says so; `cont` is the case's to see."""
        if outcome.states["source"] != "io-error" or outcome.survivor != "none":
            raise AssertionError(
                f"the source should be held in io-error; {outcome.describe()} {tag('rollback')}"
            )
        self._truthful(outcome)

    def _in_doubt(self, outcome: Outcome) -> None:
        """The target may run the guest, so the source must not; where it does not, `cont` brings it back."""
        source = outcome.source
        if outcome.survivor not in ("none", "target") or outcome.states["source"] != "postmigrate":
            raise AssertionError(
                f"the source should leave the guest alone; {outcome.describe()} {tag('rollback')}"
            )
        self._truthful(outcome)
        if outcome.survivor == "none":
            source.qmp.command("cont")
            source.wait_run_state("running")

    def _truthful(self, outcome: Outcome) -> None:
        expected = self.expected
        if outcome.reported not in expected.reported:
            raise AssertionError(
                f"QEMU should report {' or '.join(expected.reported)}; {outcome.describe()} {tag('rollback')}"
            )
        if not re.search(expected.error, outcome.error):
            raise AssertionError(
                f"the error should say /{expected.error}/, and says {outcome.error!r}; "
                f"{outcome.describe()} {tag('rollback')}"
            )

    @staticmethod
    def _given_up(outcome: Outcome) -> None:
        """The source has nothing more to do with a target that it has given up.

        Its trace is read anew: the target may have come back after the transfer had settled.
        """
        source = outcome.source
        traced = read_trace(source.trace, "source", source.clock, outcome.since, skip=outcome.traced)
        names = [event.name for event in traced]
        cancelled = names.index("migration_cancel") if "migration_cancel" in names else len(names)
        if "migration_set_outgoing_channel" in names[cancelled:]:
            raise AssertionError(
                f"the source was told to cancel, and called the target all the same {tag('rollback')}"
            )

    @staticmethod
    def _back(check: Callable[[], object]) -> None:
        """`check` a guest that came back: the roll-back is to blame, what a fault breaks is no evidence."""
        try:
            check()
        except (AssertionError, CprError) as error:
            raise AssertionError(f"{error} {tag('rollback')}") from error

    @staticmethod
    def _handed_over(check: Callable[[], object]) -> None:
        """`check` a guest on the target: any phase may be to blame, resume where there is no evidence."""
        try:
            check()
        except (AssertionError, CprError) as error:
            raise Damage(str(error), getattr(error, "phase", "resume")) from error
