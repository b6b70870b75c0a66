# SPDX-License-Identifier: GPL-2.0-or-later
"""The mutants (assets/qemu/mutants/mutants.toml), and which tests can reach each."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cprtest.errors import CprError, UsageError
from cprtest.provision import qemu_source
from cprtest.timeline.phases import PHASES

IN_LAB = ("vhost-net", "vhost-vsock", "vfio", "kvm")
"""Words of a mutant's or a test's needs that only the lab is sure to meet."""

REFERENCE = "reference"
"""In the place of a mutant: the mutants build without a fault, which has to pass the same tests."""


def lane_of(needs: Iterable[str]) -> str:
    """The lane that is sure to meet the needs of a mutant or test."""
    return "lab" if any(need.partition(":")[0] in IN_LAB for need in needs) else "here"


@dataclass(frozen=True)
class Mutant:
    """One fault. needs: what a transfer must have for the fault to be reached. seen: by an operator.

    test: Class.method of the test that was written to notice it, where its words do not tell.
    """

    name: str
    phase: str
    summary: str
    seen: str
    corpus: str = ""
    needs: tuple[str, ...] = ()
    side: str = "source"
    test: str = ""

    @property
    def lane(self) -> str:
        """Where it can be reached; a mutant of `here` can be in the lab, too."""
        return lane_of(self.needs)


@dataclass(frozen=True)
class Test:
    """A functional test: its name as Avocado's, its needs, the lane it runs in, seconds it took there.

    words: to find it by; of its name and needs, and the ids of the corpus in its promise.
    """

    name: str
    needs: tuple[str, ...] = ()
    words: frozenset[str] = field(default_factory=frozenset)
    smoke: bool = True
    lane: str = "here"
    seconds: float = 0.0

    __test__ = False  # pytest, this is no test


def mutants() -> dict[str, Mutant]:
    """All mutants by name. Raises CprError when the catalogue is wrong."""
    found = {}
    for name, entry in qemu_source.mutants().items():
        mutant = Mutant(name, **{**entry, "needs": tuple(entry.get("needs", ()))})
        if mutant.phase not in PHASES:
            raise CprError(f"{qemu_source.MUTANTS}: mutant {name}: {mutant.phase!r} is not a phase.")
        found[name] = mutant
    return found


def chosen(names: list[str]) -> list[Mutant]:
    """The mutants called `names`, or all. Raises UsageError for one that there is not."""
    every = mutants()
    if unknown := [name for name in names if name not in every]:
        raise UsageError(f"There is no mutant {unknown[0]}; scripts/mutants --list lists them.")
    return [every[name] for name in names] if names else list(every.values())


def fitting(mutant: Mutant, tests: Iterable[Test], lane: str, first: str = "") -> list[str]:
    """Names of the tests of `lane` that can reach `mutant`, the most promising first.

    A test fits that has the devices which the mutant needs. It promises more the more of the mutant's
    words it has, the corpus's id among them, and among equals when it is in the smoke suite, or shorter;
    `first`, a test that killed it once, promises most, then the one that was written for it.
    """
    devices = [word for word in mutant.needs if word in IN_LAB]
    wanted = {part for word in (mutant.name, *mutant.needs) for part in word.split("-")} | {mutant.corpus}

    def fits(test: Test) -> bool:
        offered = {need.partition(":")[0] for need in test.needs}
        return test.lane == lane and offered.issuperset(devices)

    able = [test for test in tests if fits(test)]

    def promise(test: Test) -> tuple[bool, bool, int, bool, float]:
        meant = test.name.rpartition(":")[2] == mutant.test
        return test.name != first, not meant, -len(wanted & test.words), not test.smoke, test.seconds

    able.sort(key=promise)
    return [test.name for test in able]
