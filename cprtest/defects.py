# SPDX-License-Identifier: GPL-2.0-or-later
"""Known defects of released QEMU (assets/known-defects.yaml).

The only thing that may turn a failure into anything but a failure: a test named there fails with
the signature named there on a version named there.
"""

import fnmatch
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cprtest import paths


@dataclass(frozen=True)
class Defect:
    """One entry of known-defects.yaml. cases: fault cases of tests that are tables of them (patterns).

    intermittent: tests that meet it now and then, because it is a race; their passing proves nothing.
    """

    id: str
    summary: str
    tests: tuple[str, ...]
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    signature: str
    lacks: str | None
    cases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    intermittent: tuple[str, ...] = ()

    def covers(self, test: str, case: str) -> bool:
        """Whether the fault case `case` of `test` may be expected to fail."""
        return any(fnmatch.fnmatchcase(case, pattern) for pattern in self.cases.get(test, ()))

    def concerns(self, test: str, version: tuple[int, ...], features: frozenset[str]) -> bool:
        """Whether `test` on a QEMU of `version` with `features` is expected to fail."""
        first, last = self.versions
        applies = first <= version[: len(first)] and version[: len(last)] <= last
        return test in self.tests and applies and (self.lacks is None or self.lacks not in features)

    def explains(self, failure: str) -> bool:
        """Whether the text of a failure carries this defect's signature."""
        return re.search(self.signature, failure, re.DOTALL) is not None


@functools.cache
def known_defects() -> tuple[Defect, ...]:
    """All entries of assets/known-defects.yaml."""
    import yaml  # noqa: PLC0415  (only tests that touch a defect pay for it)

    entries: list[dict[str, Any]] = yaml.safe_load((paths.ASSETS / "known-defects.yaml").read_text())
    return tuple(
        Defect(
            id=e["id"],
            summary=e["summary"],
            tests=(*_list(e.get("test", [])), *e.get("cases", {})),
            versions=(_version(e["versions"][0]), _version(e["versions"][1])),
            signature="|".join(_list(e["signature"])),
            lacks=e.get("lacks"),
            cases=e.get("cases", {}),
            intermittent=tuple(_list(e.get("intermittent", []))),
        )
        for e in entries
    )


def _list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in str(text).split("."))
