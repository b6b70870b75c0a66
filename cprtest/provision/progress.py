# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress on standard error: bars on a terminal once rich is installed, plain lines anywhere else."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

PLAIN_STEP = 25  # percent between two plain lines: a CI log wants few


class Task(Protocol):
    """One piece of work whose progress is shown."""

    def update(self, percent: float, text: str = "") -> None:
        """Show that `percent` (0 to 100) is done."""


class _Plain:
    _lock = threading.Lock()

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = 0
        self._say("...")

    def _say(self, text: str) -> None:
        with self._lock:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def update(self, percent: float, text: str = "") -> None:  # noqa: ARG002 - a bar shows the text, a log does not
        if percent >= self._shown + PLAIN_STEP and percent < 100:
            self._shown = int(percent // PLAIN_STEP) * PLAIN_STEP
            self._say(f"{self._shown} %")

    def end(self, outcome: str) -> None:
        self._say(outcome)


class _Bar:
    def __init__(self, bars: Any, name: str) -> None:
        self._bars, self._name = bars, name
        self._id = bars.add_task(name, total=100, text="")

    def update(self, percent: float, text: str = "") -> None:
        self._bars.update(self._id, completed=percent, text=text[:50])

    def end(self, outcome: str) -> None:
        self._bars.update(self._id, visible=False)
        self._bars.console.print(f"{self._name}: {outcome}", highlight=False, markup=False)


_bars: Any = None


@contextmanager
def shown() -> Iterator[None]:
    """Show bars while the block runs, if standard error is a terminal and rich is there."""
    global _bars  # noqa: PLW0603 - one screen, one set of bars
    try:
        from rich.console import Console  # noqa: PLC0415 - absent before the venv exists
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    except ImportError:
        yield
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        _bars = bars
        try:
            yield
        finally:
            _bars = None


@contextmanager
def task(name: str) -> Iterator[Task]:
    """Show one piece of work from start to end, with how long it took."""
    started = time.monotonic()
    item = _Plain(name) if _bars is None else _Bar(_bars, name)
    try:
        yield item
    except BaseException:
        item.end("failed")
        raise
    item.end(f"done in {time.monotonic() - started:.0f} s")
