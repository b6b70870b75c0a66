# SPDX-License-Identifier: GPL-2.0-or-later
"""The nine phases of a hand-over, and which event begins or ends each.

RULES speak of QEMU's own trace points and QMP events (10.2); of two for a phase the first that applies.
Where observers outside QEMU (tracefs, gate) have seen a phase, SEEN_OUTSIDE says when it was, and QEMU is not
asked. The rules are in the order of a hand-over done right; the order that happened is read off the times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cprtest.timeline.event import Event

PHASES = ("stop", "setup", "release", "handover", "acquire", "stream", "complete", "resume", "rollback")


@dataclass(frozen=True)
class Span:
    """A phase in time, in ns on the common clock."""

    start: int
    end: int


@dataclass(frozen=True)
class Mark:
    """An event that marks a phase: actor, name and some of its data."""

    actor: str
    name: str
    text: str = ""

    def matches(self, event: Event) -> bool:
        """Whether `event` is such a mark. A change of the run state is one to the state that `text` names."""
        if event.name != self.name or event.actor != self.actor:
            return False
        said = str(event.data.get("text", event.data.get("status", "")))
        return self.text in said.rpartition("new_state")[2]


@dataclass(frozen=True)
class Rule:
    """A phase begins with the first of `begin` and ends with the first of `end` at or after that.

    ended: without such an end it says nothing.
    """

    phase: str
    begin: tuple[Mark, ...]
    end: tuple[Mark, ...]
    ended: bool = False


RULES = (
    Rule(
        "stop",
        (Mark("source", "runstate_set", "(finish-migrate)"),),
        (Mark("source", "vm_stop_flush_all"),),
    ),
    # The reference has trace points for what vhost's SETUP notifier does, and for the end of all notifiers.
    Rule(
        "setup",
        (
            Mark("source", "VHOST_RESET_OWNER"),
            Mark("source", "vhost_cpr_release"),
            Mark("source", "migration_cpr_setup"),
        ),
        (
            Mark("source", "migration_cpr_setup"),
            Mark("source", "runstate_set", "(finish-migrate)"),
            Mark("source", "migration_thread_setup_complete"),
        ),
    ),
    # Another QEMU has none. Released ones (to 11.1) stop the VM after the main channel was connected, and
    # call SETUP notifiers between the two. Where the stop comes first nothing tells, but what vhost does.
    Rule(
        "setup",
        (Mark("source", "migration_set_outgoing_channel"),),
        (Mark("source", "runstate_set", "(finish-migrate)"),),
        ended=True,
    ),
    Rule("release", (Mark("source", "vhost_cpr_release"),), (Mark("source", "migration_cpr_setup"),)),
    Rule(
        "handover",
        # cpr-exec writes the state into a memfd first: nothing leaves before the process becomes the target.
        (Mark("source", "cpr_state_save", "cpr-transfer"), Mark("source", "cpr_exec")),
        (Mark("target", "cpr_state_load"),),
    ),
    Rule(
        "acquire",
        (Mark("target", "cpr_state_load"),),
        # The target closes the cpr channel (HUP) when its devices are there; the source answers that
        # by connecting the main channel.
        (Mark("source", "migration_set_outgoing_channel"), Mark("target", "migration_set_incoming_channel")),
    ),
    Rule(
        "stream",
        (Mark("source", "savevm_state_header"),),
        (Mark("target", "process_incoming_migration_co_end"),),
    ),
    Rule(
        "complete",
        (Mark("source", "migrate_set_state", "completed"),),
        (Mark("source", "runstate_set", "(postmigrate)"), Mark("source", "migration_cleanup")),
    ),
    # RESUME is announced, then the run state changes.
    Rule(
        "resume",
        (Mark("target", "RESUME"), Mark("target", "runstate_set", "(running)")),
        (Mark("target", "runstate_set", "(running)"),),
    ),
    Rule(
        "rollback",
        (
            Mark("source", "migrate_set_state", "failed"),
            Mark("source", "migrate_set_state", "cancelled"),
            Mark("source", "MIGRATION", "failed"),
        ),
        (
            Mark("source", "migration_cpr_resume"),
            Mark("source", "RESUME"),
            Mark("source", "migration_cleanup"),
        ),
    ),
)


# Here a phase ends with the last of `end`: descriptors and queues are several.
SEEN_OUTSIDE = (
    Rule(
        "release",
        (Mark("source", "VHOST_RESET_OWNER"),),
        # vhost-vsock is released by opening it anew, which is more than the ioctl.
        (Mark("source", "VHOST_RESET_OWNER"), Mark("source", "vhost_cpr_release")),
    ),
    Rule(
        "handover",
        # The head of the state leaves before the first descriptor, and the target begins to read it.
        (
            Mark("source", "cpr_state_save", "cpr-transfer"),
            Mark("source", "SCM_RIGHTS_SEND"),
            Mark("source", "SCM_RIGHTS"),
        ),
        (Mark("target", "SCM_RIGHTS_RECV"),),
    ),
    Rule("acquire", (Mark("target", "VHOST_SET_OWNER"),), ()),
)


def find_phases(events: Sequence[Event]) -> dict[str, Span]:
    """The phases that took place, from `events` in order of time.

    A phase whose end was not seen ends where it began.
    """
    outside = {rule.phase: rule for rule in SEEN_OUTSIDE}
    if any(event.name == "cpr_exec" for event in events):
        # Descriptors stay where they are. Those that are sent go to others, as to a vhost-user back end.
        del outside["handover"]
    found: dict[str, Span] = {}
    for rule in RULES:
        begin = _first(events, outside[rule.phase].begin) if rule.phase in outside else None
        ends = outside[rule.phase].end if begin else ()
        begin = begin or _first(events, rule.begin)
        if begin is None or rule.phase in found:
            continue
        later = [e for e in events if e.t >= begin.t]
        last = [_end(e) for e in later if any(m.matches(e) for m in ends)]
        end = _first(later, rule.end)
        if rule.ended and end is None:
            continue
        found[rule.phase] = Span(begin.t, max(last) if last else end.t if end else _end(begin))
    return found


def _first(events: Sequence[Event], marks: Sequence[Mark]) -> Event | None:
    return next((e for e in events if any(m.matches(e) for m in marks)), None)


def _end(event: Event) -> int:
    """When what the event tells of was over, ns: a system call takes time."""
    return int(event.data.get("end") or event.t)


def place(event: Event, phases: dict[str, Span]) -> Event:
    """The event with its phase: the shortest phase that contains it. What fits nowhere keeps None."""
    if event.phase is not None:
        return event
    around = [(s.end - s.start, name) for name, s in phases.items() if s.start <= event.t <= s.end]
    return event.in_phase(min(around)[1] if around else None)
