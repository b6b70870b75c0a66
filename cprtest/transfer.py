# SPDX-License-Identifier: GPL-2.0-or-later
"""One cpr-transfer: source, target, channels, and how it ended."""

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cprtest.errors import CprError
from cprtest.limits import wait_until
from cprtest.machine.execed import Execed
from cprtest.machine.features import features
from cprtest.machine.process import DEAD_ENDS, Machine
from cprtest.machine.qmp import CommandFailed
from cprtest.machine.spec import channel, incoming
from cprtest.observe.observer import Observer
from cprtest.observe.trace import read_trace
from cprtest.outcome import Outcome
from cprtest.timeline.agreement import Disagreement, disagreements
from cprtest.timeline.timeline import Timeline

_ENDED = ("completed", "failed", "cancelled")


class Fault(Protocol):
    """A failure to inject (cprtest/faults): name, the phase and side in which it strikes."""

    name: str
    phase: str
    side: str

    def prepare(self, transfer: "Transfer") -> None:
        """What has to be done before `migrate`."""

    def strike(self, transfer: "Transfer") -> None:
        """What has to be done after `migrate` has returned."""


class Transfer:
    """A cpr-transfer of the guest on `source` to a new QEMU, step by step.

    `start_target` makes the target: it is given the incoming options, descriptors to pass on and
    returns the machine. `scratch` is a directory for the sockets of this transfer, with a short path.
    """

    def __init__(
        self,
        source: Machine,
        start_target: Callable[[list[str], list[int]], Machine],
        directory: Path,
        scratch: Path,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.source = source
        self.observers = observers
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        self.target, self.channels = self._prepare(start_target, scratch)

    def _prepare(
        self, start_target: Callable[[list[str], list[int]], Machine], scratch: Path
    ) -> tuple[Machine, list[dict[str, Any]]]:
        """Start the target; it, and the channels that the source is to use."""
        # The target gets the cpr socket already listening, so the source can connect at once, and its
        # path serves the source alone. The main socket it makes itself before it closes the cpr channel.
        cpr_path = scratch / "cpr"
        main_path = scratch / "main"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(cpr_path))
            listener.listen(1)
            fd = listener.fileno()
            channels = [
                channel("cpr", {"type": "fd", "str": str(fd)}),
                channel("main", {"type": "unix", "path": str(main_path)}),
            ]
            target = start_target(incoming(channels), [fd])
        return target, [
            channel("main", {"type": "unix", "path": str(main_path)}),
            channel("cpr", {"type": "unix", "path": str(cpr_path)}),
        ]

    def _parameters(self) -> dict[str, Any]:
        """Migration parameters of the source."""
        return {"mode": "cpr-transfer"}

    def run(self, fault: Fault | None = None) -> Outcome:
        """Hand the guest over, wait until everything has settled, and say how it ended.

        Raises Disagreement when the observers contradict each other.
        """
        source = self.source
        source.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        source.qmp.command("migrate-set-parameters", **self._parameters())
        # A guest that was paused has to arrive paused: then that is what "has the guest" means.
        self._wanted = ("running",) if source.run_state() == "running" else ("paused", "suspended")
        self._since = len(source.qmp.events)
        self._start = time.monotonic_ns()
        for observer in self.observers:
            observer.begin(source, self.target)
        refusal = ""
        if fault:
            fault.prepare(self)
        try:
            source.qmp.command("migrate", channels=self.channels, seconds=60)
        except CommandFailed as error:
            refusal = str(error)
        if fault and not refusal:
            fault.strike(self)
        if not refusal:
            wait_until("the transfer to end", self._ended, 30, self._progress)
        self._settle()
        outcome = self._outcome(refusal)
        contradictions = disagreements(outcome.timeline.events)
        said = "\n".join(contradictions)
        outcome.checks.append({"name": "observers agree", "ok": not contradictions, "message": said})
        outcome.write()
        if fault:
            about = {"name": fault.name, "phase": fault.phase, "side": fault.side, "struck": not refusal}
            outcome.faults.append(about)
            outcome.write()
        if contradictions:
            raise Disagreement(f"observers disagree: {said}; evidence in {self.directory}")
        return outcome

    def _reported(self) -> str:
        """The last migration status that the source announced."""
        statuses = [e.data["status"] for e in self.source.qmp.events[self._since :] if e.name == "MIGRATION"]
        return statuses[-1] if statuses else "none"

    def _ended(self) -> bool:
        return self._reported() in _ENDED or self.source.exit() is not None

    def _progress(self) -> str:
        states = {m.actor: m.run_state() for m in (self.source, self.target)}
        return f"status {self._reported()}, run states {states}"

    def _settle(self) -> None:
        """Wait until the side that should have the guest has it, has stopped for good, or is gone."""

        def settled() -> bool:
            source, target = self.source.run_state(), self.target.run_state()
            survivor = target if self._reported() == "completed" else source
            if survivor is None:  # gone, so the other side decides, if it still can
                return (target if survivor is source else source) != "inmigrate"
            return survivor in self._wanted + DEAD_ENDS

        try:
            wait_until("both sides to settle", settled, 10)
        except CprError:
            pass  # the outcome tells what was there instead

    def _outcome(self, refusal: str) -> Outcome:
        machines = (self.source, self.target)
        # Asked before the states are read: a QEMU that is dying shows as gone.
        info = self.source.qmp.command("query-migrate") if self.source.run_state() else {}
        states = {m.actor: m.run_state() for m in machines}
        having = [side for side, state in states.items() if state in self._wanted]
        survivor = "both" if len(having) == 2 else having[0] if having else "none"
        events = [e for m in machines for e in m.qmp.events if e.t >= self._start]
        for observer in self.observers:
            events += observer.end()
        for m in machines:
            events += read_trace(m.trace, m.actor, m.clock, self._start)
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
            survivor=survivor,
            reported=info.get("status", self._reported()),
            error=info.get("error-desc", refusal),
            messages={m.actor: m.gone() or "" for m in machines},
        )
        timeline.write(self.directory)
        outcome.write()
        return outcome


class ExecTransfer(Transfer):
    """A cpr-exec: the source's process becomes the new QEMU. `start_target` makes an Execed.

    There is one process: `target` is what it is after execve. The device state goes through a file.
    """

    target: Execed

    def _prepare(
        self, start_target: Callable[[list[str], list[int]], Machine], scratch: Path
    ) -> tuple[Machine, list[dict[str, Any]]]:
        address = {"transport": "file", "filename": str(scratch / "state"), "offset": 0}
        channels = [{"channel-type": "main", "addr": address}]
        return start_target(incoming(channels), []), channels

    def _parameters(self) -> dict[str, Any]:
        return {"mode": "cpr-exec", "cpr-exec-command": self.target.argv}

    def _reported(self) -> str:
        # The last words of a monitor may be lost in execve. The new one speaks after success only.
        return "completed" if self.target.qmp.is_ready else super()._reported()

    def _settle(self) -> None:
        def replaced() -> bool:
            return self.target.qmp.is_ready or self._reported() == "failed" or self.source.exit() is not None

        if self._reported() == "completed":
            wait_until(
                "the new QEMU to greet", replaced, 20, lambda: f"its log ends: {self.source.last_words()}"
            )
        if self.target.qmp.is_ready:
            self.target.take_over()
        super()._settle()


def _build(machine: Machine) -> str:
    """Version and build id of a machine's QEMU, as "10.2.2 (package) build 0123abcd"."""
    build = features(machine.qemu)
    return f"{build.text} build {build.build_id or 'unknown'}"
