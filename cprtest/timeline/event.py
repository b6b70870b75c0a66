# SPDX-License-Identifier: GPL-2.0-or-later
"""An event: something one observer saw at one moment. events.jsonl holds one a line."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """One line of events.jsonl; the fields are those of DESIGN.md.

    t: ns, CLOCK_MONOTONIC of the machine the QEMUs run on. err: ns, bound of the clock error.
    phase: None until the timeline placed the event. ok: None where the result is not known.
    """

    t: int
    actor: str
    observer: str
    name: str
    err: int = 0
    phase: str | None = None
    ok: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def in_phase(self, phase: str | None) -> "Event":
        """The same event, placed."""
        return replace(self, phase=phase)

    def __str__(self) -> str:
        detail = " ".join(f"{key}={value}" for key, value in self.data.items())
        when = f"{self.t / 1e6:.3f} ms (+-{self.err / 1e3:.0f} us)"
        return f"{when} {self.actor}/{self.observer} {self.name} {detail}".rstrip()


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Write events.jsonl, in order of time."""
    # Not asdict(), which copies all there is: in an emulated lab that took half a second a transfer.
    lines = [json.dumps(vars(event)) + "\n" for event in sorted(events, key=lambda e: e.t)]
    path.write_text("".join(lines))
