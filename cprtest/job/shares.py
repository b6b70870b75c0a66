# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of several jobs of a lane runs which tests, so that all end at about the same time."""

import contextlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cprtest import paths
from cprtest.report.model import Result

_USUAL = {"here": 4.0, "lab": 20.0}
"""Seconds for a test that was never seen: what most take without KVM, and in an emulated lab."""


def _file(lane: str) -> Path:
    return paths.cache_dir() / f"durations-{lane}.json"


def known(lane: str) -> dict[str, float]:
    """Seconds that each test took in its last run in the lane, by name; empty where nothing is known."""
    try:
        read = json.loads(_file(lane).read_text())
        return {str(name): float(seconds) for name, seconds in read.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remember(lane: str, results: Iterable[Result]) -> None:
    """Keep how long the tests took that ran to their end, or to where something was missing.

    If that cannot be written the next shares are less even, no more.
    """
    ended = ("PASS", "WARN", "CANCEL")
    took = {result.name: result.duration for result in results if result.status in ended}
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=paths.cache_dir()) as making:
        made = Path(making) / "durations"
        made.write_text(json.dumps(known(lane) | took))
        made.replace(_file(lane))


def shared(names: Sequence[str], count: int, lane: str) -> list[list[str]]:
    """The tests in `count` shares, the longest given away first; each share in the order of `names`.

    Every second share is in reverse order: neighbours want the same saved states, and of two jobs that want
    one at the same time one would wait, or in labs both would make it.
    """
    took, usual = known(lane), _USUAL[lane]
    shares: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(names, key=lambda name: -took.get(name, usual)):
        min(shares, key=lambda share: sum(took.get(n, usual) for n in share)).append(name)
    place = {name: number for number, name in enumerate(names)}
    return [
        sorted(share, key=place.__getitem__, reverse=bool(number % 2))
        for number, share in enumerate(shares)
        if share
    ]
