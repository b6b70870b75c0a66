# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lab runs which tests, so that all labs end at about the same time."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cprtest import paths
from cprtest.report.model import Result

_USUAL = 20.0
"""Seconds for a test that was never seen: what most take in an emulated lab."""


def _file() -> Path:
    return paths.cache_dir() / "durations.json"


def known() -> dict[str, float]:
    """Seconds that each test took in its last run in a lab, by name; empty where nothing is known."""
    try:
        read = json.loads(_file().read_text())
        return {str(name): float(seconds) for name, seconds in read.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remember(results: Iterable[Result]) -> None:
    """Keep how long the tests took that ran to their end."""
    took = {result.name: result.duration for result in results if result.status in ("PASS", "WARN")}
    with tempfile.NamedTemporaryFile("w", dir=paths.cache_dir(), delete=False) as file:
        json.dump(known() | took, file)
    Path(file.name).replace(_file())


def shared(names: Sequence[str], count: int, seconds: dict[str, float]) -> list[list[str]]:
    """The tests in `count` shares, the longest given away first; each share in the order of `names`.

    Every second share is in reverse order: neighbours want the same saved states, and two labs that make
    one at the same time both do the work.
    """
    shares: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(names, key=lambda name: -seconds.get(name, _USUAL)):
        min(shares, key=lambda share: sum(seconds.get(n, _USUAL) for n in share)).append(name)
    place = {name: number for number, name in enumerate(names)}
    return [
        sorted(share, key=place.__getitem__, reverse=bool(number % 2))
        for number, share in enumerate(shares)
        if share
    ]
