# SPDX-License-Identifier: GPL-2.0-or-later
"""The suites of `scripts/run`: which Avocado tags make up each. Standard library only, but for members()."""

import functools

from cprtest import paths
from cprtest.errors import UsageError

SUITES = {
    "smoke": ("smoke",),
    "full": ("smoke", "full"),
    "soak": ("soak", "explore"),
    "explore": ("explore",),
    "sweep": ("sweep",),
    "downtime": ("downtime",),
    "matrix": ("matrix",),
}
"""A test belongs to a suite when it has one of the tags, in a docstring line `:avocado: tags=smoke`."""

HOURS = {"soak": 1.0, "explore": 1.0, "sweep": 2.0}
"""How long a test may take, besides what it is told to take; in other suites, as avocado.cfg says."""

BUILDS = {"matrix": {"mutants"}}
"""QEMU builds that a suite needs besides those under test: `other` targets of the matrix."""

ALONE = {"downtime", "soak", "explore", "sweep"}
"""Suites whose tests run one after the other on this host: they take what CPUs there are, or measure."""

SET_UP = {"full": ("--full",)}
"""Options of scripts/setup for a suite that needs more: Debian's QEMUs, the newest kernel, mtty."""

TESTS = "tests/functional"


def tags_of(suite: str) -> tuple[str, ...]:
    """The tags of `suite`. Raises UsageError naming the suites there are."""
    if suite not in SUITES:
        raise UsageError(f"There is no suite {suite}; suites are {', '.join(SUITES)}.")
    return SUITES[suite]


def empty(suite: str) -> str:
    """The sentence for a suite in which no test was found."""
    return (
        f"Suite {suite} is empty: no test in {TESTS} has the tag {' or '.join(SUITES[suite])}; "
        f"suites are {', '.join(SUITES)}."
    )


def members(suite: str) -> list[str]:
    """The names of the tests in `suite`, as Avocado calls them: FILE:Class.method. Needs the venv.

    Read from the sources, as Avocado's resolver does, so that an empty suite is seen before anything runs.
    """
    wanted = set(tags_of(suite))
    return [name for name, tags in everything() if wanted & tags]


@functools.cache
def everything() -> tuple[tuple[str, frozenset[str]], ...]:
    """Name and tags of every functional test. Needs the venv, and seconds: Avocado reads slowly."""
    from avocado.core.safeloader.core import find_avocado_tests  # noqa: PLC0415 - not there before set-up

    found = []
    for path in sorted((paths.CHECKOUT / TESTS).rglob("*.py")):
        for owner, methods in find_avocado_tests(str(path))[0].items():
            file = path.relative_to(paths.CHECKOUT)
            found += [(f"{file}:{owner}.{method}", frozenset(tags)) for method, tags, _ in methods]
    return tuple(found)
