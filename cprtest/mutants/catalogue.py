# SPDX-License-Identifier: GPL-2.0-or-later
"""The mutants (assets/qemu/mutants/mutants.toml), and which tests can reach each."""

from dataclasses import dataclass, field

from cprtest.errors import CprError, UsageError
from cprtest.provision import qemu_source
from cprtest.timeline.phases import PHASES

IN_LAB = ("vhost-net", "vhost-vsock", "vfio", "kvm")
"""Words of a mutant's or a test's needs that only the lab is sure to meet."""

REFERENCE = "reference"
"""The mutants build with no fault switched on, which has to pass what mutants are tried with."""


@dataclass(frozen=True)
class Mutant:
    """One fault. needs: what a transfer must have for the fault to be reached. seen: by an operator."""

    name: str
    phase: str
    summary: str
    seen: str
    corpus: str = ""
    needs: tuple[str, ...] = ()
    side: str = "source"

    @property
    def lane(self) -> str:
        """Where it can be tried."""
        return "lab" if any(word in IN_LAB for word in self.needs) else "here"


@dataclass(frozen=True)
class Test:
    """A functional test: its name as Avocado's, and its needs without what the lane gives anyway."""

    name: str
    needs: tuple[str, ...] = ()
    words: frozenset[str] = field(default_factory=frozenset)

    __test__ = False  # pytest, this is no test

    @property
    def lane(self) -> str:
        """Where it can run for sure."""
        return "lab" if any(need.partition(":")[0] in IN_LAB for need in self.needs) else "here"


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


def fitting(mutant: Mutant, tests: list[Test], most: int) -> list[str]:
    """Names of at most `most` tests that can reach `mutant`, those that fit best first.

    A test fits that runs in the mutant's lane and has the devices that the mutant needs; it fits better
    the more of the mutant's words are in its name and needs.
    """
    devices = [word for word in mutant.needs if word in IN_LAB]
    wanted = {part for word in (mutant.name, *mutant.needs) for part in word.split("-")}

    def fits(test: Test) -> bool:
        offered = {need.partition(":")[0] for need in test.needs}
        return test.lane == mutant.lane and offered.issuperset(devices)

    able = [test for test in tests if fits(test)]
    able.sort(key=lambda test: -len(wanted & test.words))
    return [test.name for test in able[:most]]
