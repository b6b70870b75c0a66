# SPDX-License-Identifier: GPL-2.0-or-later
"""In which state each side was, and where the guest ran, read off the events."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cprtest.timeline.event import Event
from cprtest.timeline.phases import Span

_STATES = re.compile(r"\((?P<old>[\w-]+)\) new_state \d+ \((?P<new>[\w-]+)\)")
_WORDS = {"running": "runs the guest", "finish-migrate": "stopped", "postmigrate": "has handed over"}


@dataclass(frozen=True)
class State:
    """What one side did from `start` to `end` (ns). kind: runs, stopped or waits."""

    words: str
    kind: str
    start: int
    end: int


def states(actor: str, events: Sequence[Event], phases: dict[str, Span], start: int, end: int) -> list[State]:
    """The states of `actor` between `start` and `end`, in order of time; an unheard target waits."""
    own = [event for event in events if event.actor == actor]
    changes = [(e.t, m) for e in own if e.name == "runstate_set" and (m := _STATES.search(_text(e)))]
    edges: list[tuple[int, str]] = []
    handover = next((e.t for e in own if e.name == "cpr_state_load"), None) if actor == "target" else None
    if actor == "target":
        execed = next((e.t for e in events if e.name == "cpr_exec"), None)
        edges.append((start, "waits") if execed is None else (execed, "starts"))
        if handover is not None:
            edges.append((handover, "starts" if execed is None else "loads"))
        if "stream" in phases and execed is None:
            edges.append((phases["stream"].start, "loads"))
    elif changes:
        edges.append((start, changes[0][1]["old"]))
    for t, change in changes:
        if not (actor == "target" and change["new"] == "inmigrate"):
            edges.append((t, change["new"]))
    if actor == "source":
        end = next((e.t for e in own if e.name == "cpr_exec"), end)
    ends = [*(t for t, _ in edges[1:]), end]
    return [State(_WORDS.get(s, s), _kind(s), t, ends[n]) for n, (t, s) in enumerate(edges)]


def paused(events: Sequence[Event], phases: dict[str, Span]) -> tuple[int, int] | None:
    """From the stop until the guest runs again, on either side; None if it did not run before or after."""
    if "stop" not in phases:
        return None
    since = phases["stop"].start
    changes = [(e.t, m) for e in events if e.name == "runstate_set" and (m := _STATES.search(_text(e)))]
    ran = any(m["old"] == "running" for t, m in changes if t <= since)
    again = next((t for t, m in changes if t > since and m["new"] == "running"), None)
    return (since, again) if ran and again is not None else None


def changes(events: Sequence[Event]) -> list[int]:
    """When a run state changed."""
    return [event.t for event in events if event.name == "runstate_set"]


def _kind(state: str) -> str:
    return "runs" if state == "running" else "waits" if state == "waits" else "stopped"


def _text(event: Event) -> str:
    return str(event.data.get("text", ""))
