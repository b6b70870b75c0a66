# SPDX-License-Identifier: GPL-2.0-or-later
"""The syscall gate: sees, holds, delays or fails chosen system calls of an unmodified QEMU, without root.

    gate = Gate()
    self.observe(gate)                       # before boot()
    hold = gate.hold("VHOST_RESET_OWNER", actor="source")
    with self.transferring(guest) as transfer:
        transfer.reach(hold)                 # the source's thread is parked in the kernel, before the ioctl
        hold.release()
    transfer.outcome.assert_completed()

By seccomp user notification, see seccomp_unotify(2). The gate sees intents, not results: a call that goes on
is done after its event, and what came of it other evidence has to tell.
"""

from __future__ import annotations

import errno
import os
import threading
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from cprtest.errors import CprError
from cprtest.observe import gate_calls
from cprtest.observe.gate_log import ANSWER, CONTINUE, Record, Supervisor
from cprtest.observe.gate_places import Places
from cprtest.observe.gate_rules import Answer, Delay, Hold, Rule
from cprtest.observe.observer import Observer
from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.machine.process import Machine

_Rule = TypeVar("_Rule", bound=Rule)


class Gate(Observer):
    """The gate of one test. descriptors: sends of descriptors (SCM_RIGHTS), too, at the price of a trap for
    each answer of QEMU's monitor. flags: calls that set whether a descriptor blocks (F_SETFL), too.

    An event's time is when the supervisor had the call. It was made up to `err` earlier, as measured when
    that QEMU was started (on a busy machine a single one can be later), and was let go `held` ns later.
    data: fd, path, nr (number of the open file among those of its path; one that travelled keeps its number),
    device and queue (QEMU's id; where they are not known, device is the path), tid, and what the call's
    argument says. ok: None for a call that went on, False for one that the gate failed, True for a faked
    success.
    """

    def __init__(self, *, descriptors: bool = False, flags: bool = False) -> None:
        self._descriptors = descriptors
        self._flags = flags
        self._supervisor: Supervisor | None = None
        self._sides: list[str | Machine] = []
        self._actors: list[str] = []
        self._files: list[dict[str, Any]] = []
        self._places = Places()
        self._rules: list[Rule] = []
        self._lock = threading.RLock()
        self._since = 0

    def fail(self, call: str, error: int, *, actor: str | None = None, nth: int | None = 1) -> Rule:
        """The call fails with errno `error` and is not done."""
        return self._add(Answer(self, call, actor, nth, -error))

    def succeed(self, call: str, *, actor: str | None = None, nth: int | None = 1) -> Rule:
        """The call returns 0 and is not done."""
        return self._add(Answer(self, call, actor, nth, 0))

    def delay(self, call: str, seconds: float, *, actor: str | None = None, nth: int | None = 1) -> Rule:
        """The call is done `seconds` later."""
        return self._add(Delay(self, call, actor, nth, seconds))

    def hold(self, call: str, *, actor: str | None = None, nth: int | None = 1) -> Hold:
        """The call is parked in the kernel until the hold is released."""
        return self._add(Hold(self, call, actor, nth, self._progress))

    def events(self, name: str = "*", actor: str | None = None) -> list[Event]:
        """All calls seen so far whose name matches the pattern `name`, those of the boot included."""
        self.intact()
        seen = [self.event(index) for index in range(self._count())]
        return [e for e in seen if fnmatchcase(e.name, name) and actor in (None, e.actor)]

    def event(self, index: int) -> Event:
        """Call `index` as an event, as far as it has come."""
        with self._lock:
            self._note()
            assert self._supervisor is not None
            return _event(self._supervisor.record(index), self._actors[index], self._files[index])

    def answer(self, index: int, how: int, value: int = 0) -> None:
        """Let call `index` go on, for rules."""
        assert self._supervisor is not None
        self._supervisor.answer(index, how, value)

    def forget(self, rule: Rule) -> None:
        """Take `rule` away, for rules."""
        with self._lock:
            if rule in self._rules:
                self._rules.remove(rule)
                self._ask()

    def prefix(self, actor: str) -> tuple[list[str], list[int]]:
        with self._lock:
            if self._supervisor is None:
                self._supervisor = Supervisor(self._descriptors, self._flags, self._asked)
                self._ask()
            self._note()
            if actor == "target":
                self._since = self._supervisor.count
            self._sides.append(actor)
            return self._supervisor.prefix(len(self._sides) - 1)

    def started(self, machine: Machine) -> None:
        with self._lock:
            self._sides[-1] = machine

    def end(self) -> list[Event]:
        self.intact()
        return [self.event(index) for index in range(self._since, self._count())]

    def intact(self) -> None:
        if self._supervisor is not None and self._supervisor.lost:
            raise CprError(self._supervisor.lost)

    def kill(self) -> None:
        """Kill the supervisor, to see what comes of that."""
        assert self._supervisor is not None
        self._supervisor.process.kill()

    def close(self) -> None:
        """Let go of everything. QEMUs behind the gate that still live are ended."""
        if self._supervisor is not None:
            self._supervisor.close()

    def _add(self, rule: _Rule) -> _Rule:
        commands = _commands(rule.pattern)
        if not commands:
            raise ValueError(f"no call is named {rule.pattern}; the gate knows {', '.join(gate_calls.NAMES)}")
        if commands == {gate_calls.SENDMSG_COMMAND} and not self._descriptors:
            raise ValueError(f"{gate_calls.SCM_RIGHTS} is seen by Gate(descriptors=True) only")
        if commands == {gate_calls.SET_FLAGS_COMMAND} and not self._flags:
            raise ValueError(f"{gate_calls.SET_FLAGS} is seen by Gate(flags=True) only")
        with self._lock:
            self._rules.append(rule)
            self._ask()
        return rule

    def _ask(self) -> None:
        """Tell the supervisor which calls are to wait for us."""
        if self._supervisor is not None:
            self._supervisor.ask({c for rule in self._rules for c in _commands(rule.pattern)})

    def _asked(self, index: int) -> None:
        """A call waits for us: the first rule that takes it decides. In the supervisor's thread."""
        with self._lock:
            event = self.event(index)
            taking = [rule for rule in tuple(self._rules) if rule.takes(index, event)]
        if taking:
            taking[0].strike(index)
        else:
            self.answer(index, CONTINUE)

    def _count(self) -> int:
        return self._supervisor.count if self._supervisor else 0

    def _note(self) -> None:
        """A process may be the target now and the source in the next transfer: keep what it was then."""
        assert self._supervisor is not None
        for index in range(len(self._actors), self._supervisor.count):
            record = self._supervisor.record(index)
            side = self._sides[record.token]
            machine = None if isinstance(side, str) else side
            self._actors.append(machine.actor if machine else str(side))
            self._files.append(
                self._places.about(record.token, machine, record.device, record.file)
                if record.file >= 0
                else {"device": record.device}
            )

    def _progress(self) -> str:
        names = [f"{e.actor} {e.name}" for e in self.events()]
        return f"the last calls were {', '.join(names[-5:])}" if names else "no gated call was made"


def _commands(pattern: str) -> set[int]:
    return {gate_calls.command_of(name) for name in gate_calls.NAMES if fnmatchcase(name, pattern)}


def _event(record: Record, actor: str, file: dict[str, Any]) -> Event:
    name = gate_calls.name_of(record.command, record.device)
    data: dict[str, Any] = {"fd": record.fd, **file}
    if record.by_order:
        data["identity"] = (
            "by order"  # this kernel cannot compare files: the nth of each side are taken for one
        )
    data |= gate_calls.details(name, record.argument, record.memory)
    data["tid"] = record.tid
    data["held"] = record.answered - record.t if record.answered else None
    ok = None
    if record.answered and record.how == ANSWER:
        ok = record.value == 0
        data["answer"] = (
            f"{errno.errorcode[-record.value]}: {os.strerror(-record.value)}" if record.value else "0"
        )
    return Event(record.t, actor, "gate", name, err=record.err, ok=ok, data=data)
