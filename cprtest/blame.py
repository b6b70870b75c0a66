# SPDX-License-Identifier: GPL-2.0-or-later
"""Which phase of a hand-over is to blame for a failure that was seen later, and by which evidence.

A broken phase shows late: what the source did not release lets the target fail in acquire, a device state
that was not sent lets the guest hang after resume. So when a test fails, everything that both QEMUs left is
looked through: their traces, their last words, what /proc says of those that live. The first phase, in the
order of a hand-over, of which there is evidence that it went wrong is the one to blame.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cprtest.machine import vhost
from cprtest.machine.process import Machine
from cprtest.observe.proc import blocking_taps, private_memory
from cprtest.observe.trace import read_trace
from cprtest.outcome import Outcome
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import tag


@dataclass(frozen=True)
class Blame:
    """A phase, and the evidence against it as half a sentence."""

    phase: str
    evidence: str

    def __str__(self) -> str:
        return f"{tag(self.phase)} ({self.evidence})"


class Case:
    """The evidence of one transfer."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.timeline = outcome.timeline
        self.target_words = _words(outcome.target)

    @cached_property
    def source(self) -> list[Event]:
        """The source's trace from its start on."""
        return read_trace(self.outcome.source.trace, "source", self.outcome.source.clock)

    @cached_property
    def during(self) -> list[Event]:
        """The source's trace from the beginning of this transfer on."""
        return [event for event in self.source if event.t >= self.outcome.since]

    @cached_property
    def target(self) -> list[Event]:
        """The target's trace."""
        return read_trace(self.outcome.target.trace, "target", self.outcome.target.clock)

    @property
    def ordered(self) -> bool:
        """Whether this QEMU says what it does: a release does not trace its stop and its SETUP notifiers."""
        return bool(named(self.during, "migration_cpr_stop", "migration_cpr_setup"))


Rule = Callable[[Case], Blame | None]

_SLOW_NS = 1_500_000_000
"""ns. No phase takes so long, not in an emulated lab either, where resume takes the most, 0.9 s."""


def named(events: Iterable[Event], *names: str) -> list[Event]:
    """The events of these names."""
    return [event for event in events if event.name in names]


def _text(event: Event) -> str:
    return str(event.data.get("text", ""))


def _words(machine: Machine) -> str:
    """What a QEMU said, without its command line."""
    return machine.log.read_text(errors="replace").partition("\n")[2]


def _run_state(case: Case) -> Blame | None:
    was = next((_text(event).split()[1] for event in named(case.during, "migration_cpr_stop")), None)
    if was and was != case.outcome.was:
        return Blame(
            "stop", f"the source took the guest for {was} before the stop, it was {case.outcome.was}"
        )
    if case.outcome.states["target"] == "finish-migrate":
        return Blame("stop", "the guest arrived in a run state that it has only after the stop")
    return None


def _not_stopped(case: Case) -> Blame | None:
    """The run state alone changed: neither devices nor vCPUs were told."""
    said = [e for e in named(case.during, "runstate_set") if "(running) new_state" in _text(e)]
    stopped = [e for e in named(case.during, "vm_state_notify") if _text(e).startswith("running 0")]
    if said and "(finish-migrate)" in _text(said[0]) and not stopped:
        return Blame("stop", "the source's run state says stopped, but neither devices nor vCPUs were told")
    return None


def _violations(case: Case) -> Blame | None:
    """What the timeline finds wrong by itself: the order of phases, two owners."""
    for violation in case.timeline.violations:
        if phase := re.search(r" ?\[phase ([a-z]+).*?\]", violation):
            return Blame(phase[1], violation.replace(phase[0], "").splitlines()[0])
    return None


def _setup_missing(case: Case) -> Blame | None:
    if case.ordered and "handover" in case.timeline.phases and "setup" not in case.timeline.phases:
        return Blame("setup", "no SETUP notifier ran")
    return None


def _release(case: Case) -> Blame | None:
    """Each vhost device that was stopped is released, or opened anew, before the descriptors leave."""
    failed = [e for e in named(case.during, "vhost_cpr_release") if not re.search(r"ret: 0\b", _text(e))]
    if failed:
        return Blame("release", f"the release of a vhost device failed ({_text(failed[0])})")
    handover = case.timeline.phases.get("handover")
    if not case.ordered or handover is None:
        return None
    before = [event for event in case.during if event.t <= handover.start]
    after = [event for event in case.during if event.t > handover.start]
    released = _devices(before, "vhost_cpr_release", "vhost_cpr_reopen")
    kept = _devices(before, "vhost_dev_stop") - released
    if not kept:
        return None
    # FAILED notifiers run only for those that saw SETUP.
    if kept & _devices(after, "vhost_cpr_acquire", "vhost_cpr_reopen"):
        return Blame("release", f"the source did not release {len(kept)} of its vhost devices")
    return Blame("setup", f"{len(kept)} of the source's vhost devices saw no SETUP notifier")


def _devices(events: Iterable[Event], *names: str) -> set[str]:
    """The addresses of vhost devices in such events: they are their names in the trace."""
    found = (re.search(r"0x[0-9a-f]+", _text(event)) for event in named(events, *names))
    return {match[0] for match in found if match}


def _descriptors(case: Case) -> Blame | None:
    """The target finds under each name what the source had saved under it."""
    saved = set()
    for event in named(case.source, "cpr_save_fd", "cpr_find_fd", "cpr_delete_fd"):
        name, fd = re.split(", fd | returns |$", _text(event), maxsplit=1)
        if event.name == "cpr_delete_fd":
            saved.discard(name)
        elif fd != "-1":
            saved.add(name)
    asked = [_text(event).split(" returns ") for event in named(case.target, "cpr_find_fd")]
    saved |= {name for name, fd in asked if fd != "-1"}
    for name, fd in asked:
        if fd == "-1" and name in saved:
            return Blame("handover", f"the target did not get the descriptor {name}, which the source had")
    if "TUNGETIFF" in case.target_words:
        return Blame("handover", "what the target got for a tap's descriptor is no tap")
    if re.search(r"vhost_set_owner failed: Device or resource busy", case.target_words):
        return Blame("handover", "the source released its vhost devices, and the target got another one")
    return None


def _not_awaited(case: Case) -> Blame | None:
    """The source gave up at the main channel although the target lives, and had not listened yet."""
    lives = case.outcome.states["target"] is not None
    begun = "handover" in case.timeline.phases and not named(case.target, "migrate_set_state")
    if case.outcome.survivor == "source" and lives and begun:
        return Blame("handover", "the source did not wait for the target to close the cpr channel")
    return None


def _hang_up(case: Case) -> Blame | None:
    """The target listens on the main channel, which it does when it has closed the cpr channel."""
    listens = any("new state setup" in _text(event) for event in named(case.target, "migrate_set_state"))
    if listens and not named(case.during, "migration_set_outgoing_channel", "migrate_error"):
        return Blame("handover", "the source did not notice that the target closed the cpr channel")
    return None


def _acquire(case: Case) -> Blame | None:
    if reset := named(case.target, "vfio_pci_reset", "vfio_pci_hot_reset"):
        return Blame("acquire", f"the target reset a device of the guest ({_text(reset[0]).strip()})")
    if case.outcome.messages["target"] and not named(case.target, "loadvm_state_setup"):
        return Blame("acquire", "the target ended before it could take the device state")
    target = case.outcome.target
    if target.exit() is None:
        if private := private_memory(target.pid):
            return Blame("acquire", f"the target mapped {private} for itself, writes do not reach the file")
        if blocking_taps(target.pid):
            return Blame("acquire", "the target holds a tap's descriptor that blocks")
        if _devices(case.during, "vhost_dev_stop") and not vhost.workers(target.pid):
            return Blame("acquire", "vhost served the guest on the source, the target owns no vhost worker")
    return None


def _stream(case: Case) -> Blame | None:
    if re.search(r"inconsistent with Host index", case.target_words):
        return Blame("stop", "the position in a ring that the source sent is not that of the ring in memory")
    if "Failed to get " in case.target_words and " lock" in case.target_words:
        return Blame("complete", "the source still held the lock of an image")
    given, got = _sections(case.source), _sections(case.target)
    if got and (lost := [name for name in given if name not in got]):
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        return Blame("stream", f"the target got no state of {lost[0]}{more}")
    if "load of migration failed" in case.target_words or (
        case.outcome.messages["target"] and not _ran(case)
    ):
        return Blame("stream", "the target did not take the device state")
    if any(_text(event).endswith("(internal-error)") for event in named(case.target, "runstate_set")):
        return Blame(
            "acquire", "KVM could not run the guest on the memory and devices that the target took over"
        )
    return None


def _sections(events: Iterable[Event]) -> list[str]:
    """Sections of device state that a QEMU was given: NAME INSTANCE."""
    found = (
        re.match(r"\d+\((.*)\) (\d+) \d+$", _text(event))
        for event in named(events, "qemu_loadvm_state_section_startfull")
    )
    return [f"{match[1]} {match[2]}" for match in found if match]


def _ran(case: Case) -> bool:
    return any(_text(event).endswith("(running)") for event in named(case.target, "runstate_set"))


def _complete(case: Case) -> Blame | None:
    outcome = case.outcome
    resumed = [e.t for e in named(case.during, "vm_state_notify") if _text(e).startswith("running 1")]
    done = [e.t for e in named(case.during, "migrate_set_state") if "completed" in _text(e)]
    if done and resumed and max(resumed) > done[0]:
        return Blame("complete", "the source resumed the guest after the transfer was completed")
    if outcome.reported == "completed" and outcome.messages["target"] and not _ran(case):
        return Blame("complete", "the source reports completed, and the target had ended without the guest")
    if outcome.reported in ("failed", "cancelled") and _ran(case):
        return Blame("complete", f"the target had run the guest, and the source reports {outcome.reported}")
    if outcome.reported == "completed" and outcome.states["source"] not in ("postmigrate", None):
        return Blame("complete", f"the source was left in run state {outcome.states['source']}")
    return None


def _resume(case: Case) -> Blame | None:
    if case.outcome.reported != "completed":
        return None
    state = case.outcome.states["target"]
    if state not in (None, case.outcome.was):
        return Blame("resume", f"the guest was {case.outcome.was}, and the target left it {state}")
    if case.outcome.target.exit() and not case.outcome.target.stopping:
        return Blame("resume", "the target ended after it had started the guest")
    if _devices(case.during, "vhost_dev_stop") and not named(case.target, "vhost_dev_start"):
        return Blame("resume", "the target owns the vhost device, and did not start it")
    return None


def _slow(case: Case) -> Blame | None:
    """One phase took long, and nearly all of the pause: what failed may have been too late for others.

    A phase lasts until the next begins: what comes after its last event is still its own.
    """
    begun = sorted((span.start, name) for name, span in case.timeline.phases.items())
    if not begun:
        return None
    end = max(span.end for span in case.timeline.phases.values())
    times = [*(start for start, _ in begun), end]
    lengths = [(after - start, name) for (start, name), after in zip(begun, times[1:], strict=True)]
    longest, name = max(lengths)
    pause = end - times[0]
    if longest < max(_SLOW_NS, 0.75 * pause):
        return None
    return Blame(name, f"it took {longest / 1e9:.1f} of the {pause / 1e9:.1f} s of the hand-over")


_TRANSFER: Sequence[Rule] = (
    _run_state,
    _not_stopped,
    _violations,
    _setup_missing,
    _release,
    _descriptors,
    _not_awaited,
    _hang_up,
    _acquire,
    _stream,
    _complete,
    _resume,
    _slow,
)
_FAILURE: Sequence[Rule] = (_run_state, _not_stopped, _violations, _setup_missing, _complete)
"""Where a fault was injected, what it breaks is no evidence."""


def blame(outcomes: Sequence[Outcome], suspect: str = "resume") -> Blame | None:
    """Who is to blame for what was seen after these transfers of a guest; None before the first.

    `suspect`: the phase that what was found broken depends on, blamed when there is no evidence against any
    other. Where a failure was injected and the guest came back, that is the roll-back.
    """
    found = (of_transfer(outcome) for outcome in outcomes)
    return next(filter(None, found), None) or (_without_evidence(outcomes, suspect) if outcomes else None)


def _without_evidence(outcomes: Sequence[Outcome], suspect: str) -> Blame:
    last = outcomes[-1]
    reached = [phase for phase in last.timeline.order() if phase not in ("acquire", "resume", "complete")]
    if last.meant_to_fail and "rollback" not in reached and last.reported != "cancelling":
        return Blame(reached[-1] if reached else "stop", "the source did not begin to roll back")
    if last.meant_to_fail:
        return Blame("rollback", "a failure was injected, and the guest on the source is not as it was")
    if last.survivor != "target" and len(outcomes) > 1 and outcomes[-2].meant_to_fail:
        return Blame("rollback", "the failed transfer before this one left a source that cannot try again")
    if last.survivor != "target":
        return Blame(last.timeline.last() or "stop", "the last phase that was reached")
    return Blame(suspect, "all phases left the traces that they should")


def of_transfer(outcome: Outcome) -> Blame | None:
    """The first phase of which there is evidence that it went wrong."""
    case = Case(outcome)
    rules = _FAILURE if outcome.meant_to_fail else _TRANSFER
    return next((found for rule in rules if (found := rule(case))), None)
