# SPDX-License-Identifier: GPL-2.0-or-later
"""Oracles against each other: what different observers tell of one transfer has to fit together.

Each check compares two observers, where both were there: what one saw must have its counterpart at the other,
and cause must not come after effect by more than both clocks' error. What does not fit is no verdict on QEMU
but on the evidence, and an error of its own.
"""

import re
from collections.abc import Callable, Sequence

from cprtest.errors import CprError
from cprtest.timeline.event import Event
from cprtest.timeline.order import tag

_OWNER_CALLS = {
    "VHOST_SET_OWNER": "acquire",
    "VHOST_RESET_OWNER": "release",
    "VHOST_NET_SET_BACKEND": "acquire",
    "VHOST_VSOCK_SET_RUNNING": "acquire",
    "TUNSETIFF": "acquire",
    "TUNSETQUEUE": "acquire",
}
"""What gate and tracefs both see, and the phase to which it belongs."""

_SIDES = ("source", "target")
_RETURNED = re.compile(r"fd: (\d+) ret: (-?\d+)")


class Disagreement(CprError):
    """Two observers contradict each other: the evidence of this transfer cannot be trusted."""


def disagreements(events: Sequence[Event]) -> list[str]:
    """A sentence for each pair of observations that contradict each other; `events` in order of time."""
    return [sentence for check in _CHECKS for sentence in check(events)]


def _gate_and_kernel(events: Sequence[Event]) -> list[str]:
    """Every call that the gate let through was then made, in the same order, and no other was."""
    if not {"gate", "tracefs"} <= {e.observer for e in events}:
        return []
    found = []
    begun = next((e.t for e in events if e.name in ("MIGRATION", "migrate_set_state")), 0)
    for name, phase in _OWNER_CALLS.items():
        for side in _SIDES:
            calls = [e for e in events if (e.actor, e.name) == (side, name)]
            let = [e for e in calls if e.observer == "gate" and e.ok is None]
            made = [e for e in calls if e.observer == "tracefs"]
            let = _since_both_watched(let, len(made), begun)
            # A process can be killed between the two.
            if len(let) != len(made) and not (
                len(let) == len(made) + 1 and let[-1] is _last_of(side, events)
            ):
                text = f"the gate let {len(let)} {name} of the {side} through, the kernel saw {len(made)}"
                found.append(f"{text} {tag(phase)}")
            found += [_late(a, b, phase) for a, b in zip(let, made, strict=False) if not _in_order(a, b)]
    return found


def _since_both_watched(let: list[Event], made: int, begun: int) -> list[Event]:
    """Without what the gate saw before the kernel was asked, which is before `migrate` was given."""
    early = sum(e.t - e.err < begun for e in let)
    return let[min(early, max(0, len(let) - made)) :]


def _trace_and_kernel(events: Sequence[Event]) -> list[str]:
    """When QEMU says that it gave a vhost device up or took it back, the kernel has seen it do so."""
    found = []
    for name, call, phase in (
        ("vhost_cpr_release", "VHOST_RESET_OWNER", "release"),
        ("vhost_cpr_acquire", "VHOST_SET_OWNER", "rollback"),
    ):
        for said in [e for e in events if e.observer == "trace" and e.name == name]:
            match = _RETURNED.search(str(said.data.get("text")))
            if match is None or match[2] != "0" or not _traced(events):
                continue
            fd = int(match[1])
            by_ioctl = [
                e for e in events
                if e.observer == "tracefs" and (e.actor, e.name, e.ok) == (said.actor, call, True)
                and e.data["fd"] == fd and _in_order(e, said)
            ]  # fmt: skip
            # vhost-vsock is given up by closing it, which frees its descriptor for the new one; so is a
            # vhost-net that could not be taken back from an earlier target.
            by_closing = [
                e for e in events
                if e.name == "CLOSE" and e.data["kind"].startswith("vhost-") and _in_order(e, said)
            ]  # fmt: skip
            faked = [
                e for e in events
                if e.observer == "gate" and (e.actor, e.name, e.ok) == (said.actor, call, True)
            ]  # fmt: skip
            if not by_ioctl and not faked and not (call == "VHOST_RESET_OWNER" and by_closing):
                found.append(f"QEMU says {said}, the kernel saw no {call} of descriptor {fd} {tag(phase)}")
    return found


def _descriptors(events: Sequence[Event]) -> list[str]:
    """The n-th descriptor that arrives was sent before, and QEMU began to save its state before the first."""
    sent = [e for e in events if e.name == "SCM_RIGHTS_SEND" and e.actor == "source"]
    received = [e for e in events if e.name == "SCM_RIGHTS_RECV" and e.actor == "target"]
    saved = [e for e in events if e.name == "cpr_state_save" and e.actor == "source"]
    found = [_late(a, b, "handover") for a, b in zip(sent, received, strict=False) if not _in_order(a, b)]
    if len(received) > len(sent):
        text = f"the target received {len(received)} descriptors, the source sent {len(sent)}"
        found.append(f"{text} {tag('handover')}")
    if saved and sent and not _in_order(saved[0], sent[0]):
        found.append(_late(saved[0], sent[0], "handover"))
    return found


def _workers(events: Sequence[Event]) -> list[str]:
    """Who acquires a vhost device gets a worker, while the call is made."""
    found = []
    started = [e for e in events if e.name == "vhost-worker-start"]
    for call in [e for e in events if e.observer == "tracefs" and e.name == "VHOST_SET_OWNER" and e.ok]:
        within = [
            e
            for e in started
            if e.actor == call.actor and call.t - call.err <= e.t <= call.data["end"] + e.err
        ]
        if not within:
            found.append(f"{call} succeeded, and no worker of the {call.actor} was started {tag('acquire')}")
    return found


def _workers_in_proc(events: Sequence[Event]) -> list[str]:
    """/proc shows each vhost worker whose start the kernel told of, until its end."""
    ends = {e.data["worker"]: e for e in events if e.name == "vhost-worker-end"}
    found = []
    for start in [e for e in events if e.name == "vhost-worker-start"]:
        worker = start.data["worker"]
        until = ends[worker].t - ends[worker].err if worker in ends else events[-1].t
        for sample in [e for e in events if (e.actor, e.name) == (start.actor, "SAMPLE")]:
            lives = start.t + start.err < sample.t and sample.data["end"] < until
            if lives and worker not in sample.data["workers"]:
                found.append(f"{start}, and /proc does not show it at {sample.data['at']} {tag('acquire')}")
    return found


def _qmp_and_trace(events: Sequence[Event]) -> list[str]:
    """The trace of a QEMU has the change of its run state before it announces STOP, and after RESUME."""
    found = []
    for side in _SIDES:
        traced = [e for e in events if (e.actor, e.observer) == (side, "trace")]
        changes = [e for e in traced if e.name == "runstate_set"]
        for said in [e for e in events if (e.actor, e.observer) == (side, "qmp")]:
            no_stop = said.name == "STOP" and not any(_in_order(change, said) for change in changes)
            no_resume = said.name == "RESUME" and not any(_in_order(said, change) for change in changes)
            # It may have been killed in between, or be without a trace.
            if traced and (no_stop or (no_resume and _in_order(said, traced[-1]))):
                phase = "stop" if no_stop else "resume"
                found.append(f"QMP says {said}, and QEMU's trace has no such change {tag(phase)}")
    return found


def _beats_and_qmp(events: Sequence[Event]) -> list[str]:
    """No vCPU beats between the stop and the resume that QEMU announces."""
    told = [e for e in events if e.observer == "qmp" and e.name in ("STOP", "RESUME")]
    if not told or told[0].name != "STOP":
        return []
    stop, resume = told[0], next((e for e in told if e.name == "RESUME"), None)
    beats = [e for e in events if e.observer == "heartbeat"]
    late = [e for e in beats if e.name == "beat_last" and not _in_order(e, stop)]
    early = [e for e in beats if e.name == "beat_first" and resume and not _in_order(resume, e)]
    return [_late(e, stop, "stop") for e in late] + [_late(resume, e, "resume") for e in early if resume]


_CHECKS: tuple[Callable[[Sequence[Event]], list[str]], ...] = (
    _gate_and_kernel,
    _trace_and_kernel,
    _descriptors,
    _workers,
    _workers_in_proc,
    _qmp_and_trace,
    _beats_and_qmp,
)


def _traced(events: Sequence[Event]) -> bool:
    return any(e.observer == "tracefs" for e in events)


def _last_of(side: str, events: Sequence[Event]) -> Event | None:
    """The last that the kernel or the gate saw of a side."""
    return next((e for e in reversed(events) if e.actor == side and e.observer in ("gate", "tracefs")), None)


def _in_order(cause: Event, effect: Event) -> bool:
    return cause.t - cause.err <= effect.t + effect.err


def _late(cause: Event, effect: Event, phase: str) -> str:
    return f"{effect} should come after {cause} {tag(phase)}"
