# SPDX-License-Identifier: GPL-2.0-or-later
"""One cpr-transfer: source, target, channels, and how it ended."""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cprtest.errors import CprError
from cprtest.faults.fault import Fault, NotStruck
from cprtest.faults.relay import Relay, unix_connection, unix_listener
from cprtest.limits import wait_until
from cprtest.machine.features import features
from cprtest.machine.process import DEAD_ENDS, DETAILS, Machine
from cprtest.machine.qmp import CommandFailed
from cprtest.machine.spec import GuestSpec, channel, incoming
from cprtest.observe.observer import Observer
from cprtest.observe.trace import read_trace
from cprtest.outcome import Outcome
from cprtest.timeline.agreement import Disagreement, disagreements
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline

_ENDED = ("completed", "failed", "cancelled")


@dataclass
class TargetPlan:
    """The target that is going to be started; a fault may change it.

    spec: its guest. extra: further options. fds: descriptors it inherits. prefix: words before its command
    line, a program that ends by becoming QEMU.
    """

    spec: GuestSpec
    extra: list[str]
    fds: list[int]
    prefix: list[str] = field(default_factory=list)

    def place_of(self, kind: str) -> int:
        """Where in `extra` the channel `kind` (main or cpr) is; -incoming is the word before it."""
        return next(n for n, word in enumerate(self.extra) if f'"{kind}"' in word)


class Transfer:
    """A cpr-transfer of the guest on `source` to a new QEMU, step by step.

    `start_target` makes the target. `scratch` is a directory for the sockets of this transfer, with a short
    path.
    """

    target: Machine
    copies_memory = False
    """Guest memory goes through the main channel; else both sides map the same."""

    def __init__(
        self,
        source: Machine,
        start_target: Callable[[TargetPlan], Machine],
        spec: GuestSpec,
        directory: Path,
        scratch: Path,
        *,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.source = source
        self.observers = observers
        self._made_before: Outcome | None = None
        self._was, self._since, self._start, self._traced = "gone", 0, time.monotonic_ns(), 0
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        self.scratch = scratch
        self._start_target = start_target
        self.open_socket: Callable[[int, int], socket.socket] = socket.socket
        """How to make a socket where both QEMUs have their network."""
        self._relays: list[Relay] = []
        self._fault = Fault()
        self._begun = False
        self.plan = self._planned(spec)
        self.arguments: dict[str, Any] | None = None
        """What a fault wants `migrate` to be given."""

    def _planned(self, spec: GuestSpec) -> TargetPlan:
        # The target gets the cpr socket already listening, so the source can connect at once, and its
        # path serves the source alone. The main socket it makes itself before it closes the cpr channel.
        self._listener = unix_listener(str(self.scratch / "cpr"), 1)
        fd = self._listener.fileno()
        self.main = {"type": "unix", "path": str(self.scratch / "main")}
        self.cpr = {"type": "unix", "path": str(self.scratch / "cpr")}
        target = [channel("cpr", {"type": "fd", "str": str(fd)}), channel("main", self.main)]
        return TargetPlan(spec, incoming(target), [fd])

    def _started_target(self) -> Machine:
        with self._listener:
            return self._start_target(self.plan)

    def _parameters(self) -> dict[str, Any]:
        """Migration parameters of the source."""
        return {"mode": "cpr-transfer"}

    @property
    def channels(self) -> list[dict[str, Any]]:
        """Where the source connects to, as `migrate` takes it."""
        return [channel("main", self.main), channel("cpr", self.cpr)]

    def relay(self, kind: str) -> Relay:
        """Put a relay into the channel `kind` (main or cpr). To be called before the target is started."""
        address = {"main": self.main, "cpr": self.cpr}[kind]
        connect = unix_connection(address["path"])
        address["path"] += "-relay"
        return self._relayed(kind, unix_listener(address["path"]), connect)

    def relay_by_tcp(self) -> Relay:
        """A relay into the main channel to which the source connects by TCP, in the test's own namespace."""
        listener = self.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)
        connect = unix_connection(self.main["path"])
        port = str(listener.getsockname()[1])
        self.main = {"type": "inet", "host": "127.0.0.1", "port": port}
        return self._relayed("main", listener, connect)

    def _relayed(self, kind: str, listener: socket.socket, connect: Callable[[], socket.socket]) -> Relay:
        made = Relay(kind, listener, connect)
        self._relays.append(made)
        made.start()
        return made

    def run(self, fault: Fault | None = None) -> Outcome:
        """Hand the guest over, wait until everything has settled, and say how it ended.

        Raises NotStruck when the fault did not strike, Disagreement when the observers contradict each other.
        """
        self._fault = fault = fault or Fault()
        try:
            outcome = self._run(fault)
        finally:
            with contextlib.ExitStack() as ending:  # from the last line to the first
                for relay in self._relays:
                    ending.callback(relay.close)
                ending.callback(fault.close)
                ending.callback(fault.undo, self)
        if fault.name:
            fault.confirm(outcome)
            if fault.struck_at is not None:
                outcome.timeline.add(
                    Event(fault.struck_at, fault.side, "fault", fault.name, phase=fault.phase or None)
                )
                outcome.timeline.write(self.directory)
            outcome.faults.append({**fault.about(), "rollback_ns": outcome.rollback_ns(fault.struck_at)})
            outcome.write()
            if fault.struck_at is None:
                raise NotStruck(f"the fault {fault.name} did not strike; {outcome.describe()}")
        contradictions = disagreements(outcome.timeline.events)
        said = "\n".join(contradictions)
        outcome.checks.append({"name": "observers agree", "ok": not contradictions, "message": said})
        outcome.write()
        if contradictions:
            raise Disagreement(f"observers disagree: {said}; evidence in {self.directory}")
        return outcome

    def _run(self, fault: Fault) -> Outcome:
        source = self.source
        # A guest that was paused, or is off, has to arrive so: then that is what "has the guest" means.
        self._was = source.run_state() or "gone"
        self._wanted = ("running",) if self._was == "running" else ("paused", "suspended", "shutdown")
        self._since = len(source.qmp.events)
        self._start = time.monotonic_ns()
        # A source that has been rolled back often has a long trace.
        self._traced = source.trace.stat().st_size if source.trace.exists() else 0
        for observer in self.observers:
            observer.arm(source)
        fault.arm(self)
        self.target = self._started_target()
        self._begun = True
        source.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        source.qmp.command("migrate-set-parameters", **self._parameters())
        for observer in self.observers:
            observer.begin(source, self.target)
        fault.ready(self)
        refusal = ""
        try:
            arguments = {"channels": self.channels} if self.arguments is None else self.arguments
            source.qmp.command("migrate", seconds=60, **arguments)
        except CommandFailed as error:
            refusal = str(error)
        fault.strike(self)
        if not refusal:
            wait_until("the transfer to end", self._ended, 30, self._progress)
        fault.undo(self)
        self._settle()
        return self._outcome(refusal)

    def so_far(self) -> Outcome | None:
        """What can be said of a transfer that `run` raised on; asks neither QEMU. None: it had not begun."""
        if self._made_before is None and self._begun:
            states = {m.actor: None if m.exit() else "unknown" for m in (self.source, self.target)}
            return self._made(states, "none", {}, "")
        return self._made_before

    def _reported(self) -> str:
        """The migration status that the source announced last; an end stays one.

        Two threads of QEMU may announce in another order than that in which they set the state (D-017).
        """
        events = self.source.qmp.events[self._since :]
        statuses = [str(e.data["status"]) for e in events if e.name == "MIGRATION"]
        begun = max((n for n, status in enumerate(statuses) if status == "setup"), default=0)
        ends = [status for status in statuses[begun:] if status in _ENDED]
        return (ends or statuses or ["none"])[-1]

    def _ended(self) -> bool:
        return self._reported() in _ENDED or self.source.exit() is not None

    def _progress(self) -> str:
        states = {}
        for m in (self.source, self.target):
            try:
                states[m.actor] = m.run_state()
            except CprError as error:  # a fault may have stopped it
                states[m.actor] = str(error)
        return f"status {self._reported()}, run states {states}"

    def _settle(self) -> None:
        """Wait until the side that should have the guest has it, has stopped for good, or is gone."""

        def settled() -> bool:
            source, target = self.source.run_state(), self.target.run_state()
            # A source that failed in doubt leaves the guest to the target.
            left = self._reported() == "completed" or source == "postmigrate"
            survivor = target if left else source
            if survivor is None:  # gone, so the other side decides, if it still can
                return (target if survivor is source else source) != "inmigrate"
            return survivor in self._wanted + DEAD_ENDS

        try:
            # A target whose source was killed may wait for the rest for ever.
            wait_until("both sides to settle", settled, 10 if self.source.run_state() else 1)
        except CprError:
            pass  # the outcome tells what was there instead

    def _outcome(self, refusal: str) -> Outcome:
        machines = (self.source, self.target)
        # Asked before the states are read: a QEMU that is dying shows as gone.
        info = self.source.qmp.command("query-migrate") if self.source.run_state() else {}
        states = {m.actor: m.run_state() for m in machines}
        having = [side for side, state in states.items() if state in self._wanted]
        survivor = "both" if len(having) == 2 else having[0] if having else "none"
        return self._made(states, survivor, info, refusal)

    def _made(
        self,
        states: dict[str, str | None],
        survivor: str,
        info: dict[str, Any],
        refusal: str,
    ) -> Outcome:
        machines = (self.source, self.target)
        events = [e for m in machines for e in m.qmp.events if e.t >= self._start]
        for observer in self.observers:
            events += observer.end()
        for m, skip in zip(machines, (self._traced, 0), strict=True):
            events += read_trace(m.trace, m.actor, m.clock, self._start, without=DETAILS, skip=skip)
        downtime = info.get("downtime")
        timeline = Timeline.build(
            events,
            {m.actor: _build(m) for m in machines},
            downtime * 10**6 if downtime is not None else None,
        )
        outcome = Outcome(
            source=self.source,
            target=self.target,
            timeline=timeline,
            directory=self.directory,
            states=states,
            was=self._was,
            survivor=survivor,
            reported=info.get("status", self._reported()),
            error=info.get("error-desc", refusal),
            messages={m.actor: m.gone() or "" for m in machines},
            refusal=refusal,
            since=self._start,
            traced=self._traced,
        )
        if not self.copies_memory:
            sent = info.get("ram", {})
            outcome.pages = sent.get("normal", 0) + sent.get("duplicate", 0)
        outcome.meant_to_fail = bool(self._fault.name)
        self._made_before = outcome
        timeline.write(self.directory)
        outcome.write()
        return outcome


def _build(machine: Machine) -> str:
    """Version and build id of a machine's QEMU, as "10.2.2 (package) build 0123abcd"."""
    build = features(machine.qemu)
    return f"{build.text} build {build.build_id or 'unknown'}"
