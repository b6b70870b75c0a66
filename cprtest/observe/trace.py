# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's trace log (log back end with -msg timestamp=on) as events.

A line is `2026-01-31T12:00:00.123456Z NAME TEXT` since QEMU 10.1, `PID@SECONDS.MICROSECONDS:NAME TEXT`
before; anything else in the file is not a trace. One event in a million comes at a whole second, which GLib
writes without a fraction.
"""

import re
from collections.abc import Container
from datetime import datetime
from pathlib import Path

from cprtest.timeline.clock import WallClock
from cprtest.timeline.event import Event

_LINE = re.compile(
    r"^(?:(?P<date>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<us>\d{6}))?Z |\d+@(?P<s>\d+)\.(?P<old_us>\d{6}):)"
    r"(?P<name>\w+) ?(?P<text>.*)$"
)

_RESOLUTION = 1000  # ns: the log has microseconds


def read_trace(
    path: Path, actor: str, clock: WallClock, since: int = 0, *, without: Container[str] = (), skip: int = 0
) -> list[Event]:
    """Events of the trace log `path` at or after `since` (ns, monotonic), but for those in `without`.

    skip: bytes of the file that are known to be older.
    """
    if not path.exists():
        return []
    events = []
    err = clock.error() + _RESOLUTION
    with path.open("rb") as file:
        file.seek(skip)
        text = file.read().decode(errors="replace")
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match["name"] in without:
            continue
        t = clock.at(_wall_ns(match))
        if t >= since:
            events.append(Event(t, actor, "trace", match["name"], err=err, data={"text": match["text"]}))
    return events


def _wall_ns(match: re.Match[str]) -> int:
    """The line's time of day in ns since 1970 (UTC)."""
    if match["date"]:
        seconds = int(datetime.fromisoformat(match["date"] + "+00:00").timestamp())
        return seconds * 10**9 + int(match["us"] or 0) * 1000
    return int(match["s"]) * 10**9 + int(match["old_us"]) * 1000
