# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run is to do: which tests with which variants, and the job of each lane."""

from dataclasses import dataclass
from pathlib import Path

from cprtest.job import arguments, lane, variants
from cprtest.job.variants import Variant


@dataclass(frozen=True)
class Plan:
    """What is to be run: the suite's tests, each with each of the variants if there are any."""

    asked: arguments.Arguments
    tests: list[str]
    variants: tuple[Variant, ...]

    @property
    def names(self) -> list[str]:
        """What the tests are called in results."""
        return variants.names(self.tests, self.variants)

    def job(
        self, name: str, references: list[str], tags: tuple[str, ...], tests: list[str], root: Path
    ) -> lane.Job:
        """The job `name` with the variants that `tests` ask for; the name begins with its lane's."""
        file = None
        if self.variants:
            file = root / f"{name}-variants.json"
            variants.write(file, variants.of(tests, self.variants), self.asked.parameters())
        return lane.Job(
            lane=name.partition("-")[0],
            references=references,
            tags=tags,
            directory=root / name,
            parameters=self.asked.parameters(),
            extra=self.asked.avocado,
            hours=self.asked.hours,
            variants=file,
            lab_devices=self.asked.lab_devices,
        )

    def share(self, name: str, tests: list[str], root: Path) -> lane.Job:
        """The job `name` with just these tests."""
        plain = list(dict.fromkeys(test.partition(";")[0] for test in tests))
        return self.job(name, [lane.exactly(test) for test in plain], (), tests, root)
