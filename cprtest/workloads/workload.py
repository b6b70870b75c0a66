# SPDX-License-Identifier: GPL-2.0-or-later
"""A workload: load in the guest that runs through any number of transfers, and the checker that judges it.

Starting, running and judging are separate. The program in the guest does operations and reports each of them
(cprtest.workloads.history); the checker reads only that history and artefacts: the disk's image, the file
that is the guest's memory, the kernel's messages. It says what is wrong and where, and the phases if they can
be told.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.limits import TimeLimit, wait_until
from cprtest.timeline.timeline import tag
from cprtest.workloads.history import History, Operation, Problem

SHOWN = 8

LAST_WORDS = 5
"""Seconds (stretched) for an answer from a guest or a QEMU that may well be past answering."""

_TASKS = (
    "dmesg | tail -n 40; for task in $(ls -d /proc/[0-9]*/task/*); do "
    'case "$(cat $task/comm 2>/dev/null)" in kworker/[0-9u]*|ksoftirqd*|khugepaged|{0}) '
    'echo "== $task"; for what in stat wchan syscall stack; do cat $task/$what 2>/dev/null; echo; done;; '
    "esac; done"
)
"""Those of a program, by its first 15 letters, and those of the kernel that might keep it waiting."""


class Workload(ABC):
    """A program in the guest with one or more reporters; a subclass starts it, and judges.

    name: what reporters are called. program: the guest's command, assets/guest/PROGRAM.c. reporters: how
    many.
    """

    name: str
    program: str
    stalls: tuple[str, ...] = ("stream",)
    """The phases to blame when nothing is reported on the target: there the device's state travels."""

    def __init__(self, guest: Guest, reporters: int) -> None:
        self.guest = guest
        self.reporters = reporters
        self.history = History(guest.machine.history)
        self._ended = False
        self._running_on = guest.machine
        self.trouble: Callable[[], str | None] = lambda: None
        """Says why there will be no progress any more: asked while progress is waited for."""

    def start(self, command: str) -> None:
        """Start the workload's program in the background of the guest; `pid_file` has its number then."""
        self.guest.run(f"{command} >/run/{self.name}.log 2>&1 </dev/null & echo $! >{self.pid_file}")

    @property
    def pid_file(self) -> str:
        """The guest's file with the process that was started last."""
        return f"/run/{self.name}.pid"

    def operations(self, what: str | None = None) -> list[Operation]:
        """What has been reported so far; only operations called `what`, if given."""
        return [op for op in self.history.operations(self.name) if what in (None, op.what)]

    def wait_progress(self, count: int = 3, what: str | None = None, seconds: float = 20) -> None:
        """Wait until every reporter has done `count` operations more (`what`, if given).

        Raises AssertionError naming those that have stopped, with what the checker finds. `seconds`:
        stretched.
        """
        done = self._done(what)
        goal = {who: done[who] + count for who in self._names()}
        kind = what or "operation"
        self._wait(f"{count} times {kind} of each", lambda: self._short_of(goal, what), seconds)
        self._running_on = self.guest.machine

    def wait_for(self, what: str) -> None:
        """Wait until an operation called `what` has been reported by anybody."""
        self._wait(f"an operation {what!r}", lambda: [] if self.operations(what) else ["everybody"])

    def stop(self) -> None:
        """Ask the program to end and wait for its last reports. Safe to call twice."""
        if self._ended:
            return
        self._ended = True
        self.ask_to_end()
        ended = dict.fromkeys(self._names(), 1)
        self._wait("the end", lambda: self._short_of(ended, "end"))

    def ask_to_end(self) -> None:
        """Have the program finish what it is doing and end."""
        # Its children, one for each reporter, are what does the work.
        self.guest.run(f"killall -TERM {self.program} || true")

    def problems(self) -> list[Problem]:
        """Everything that is wrong, of all that has been reported so far."""
        return [*self.history.problems(self.name), *self.judge()]

    @abstractmethod
    def judge(self) -> list[Problem]:
        """What is wrong by this workload's own rules."""

    def check(self) -> None:
        """Raises AssertionError naming all that is wrong."""
        self.fail_with(self.problems())

    def fail_with(self, problems: Sequence[Problem]) -> None:
        """Raises AssertionError with `problems`, if there are any."""
        fail_with(self.name, problems)

    def _names(self) -> list[str]:
        return [f"{self.name}.{index}" for index in range(self.reporters)]

    def _done(self, what: str | None) -> dict[str, int]:
        done = dict.fromkeys(self._names(), 0)
        for operation in self.operations(what):
            done[operation.who] = done.get(operation.who, 0) + 1
        return done

    def _short_of(self, goal: dict[str, int], what: str | None) -> list[str]:
        done = self._done(what)
        return [who for who, count in goal.items() if done.get(who, 0) < count]

    def _wait(self, what: str, silent: Callable[[], list[str]], seconds: float = 20) -> None:
        """Wait until nobody is `silent`, for as long as there is a guest to wait for."""
        try:
            wait_until(
                f"{what} ({self.name})",
                lambda: not silent() or self._gone(),
                seconds,
                interval=0.02,
                vain=self.trouble,
            )
            if not (waiting := silent()):
                return
            why = self._gone()
        except TimeLimit as limit:
            waiting, why = silent(), f"{limit}{self._said()}"
        found = [*self.problems(), *self.post_mortem()]
        blamed = self._blame(found)
        listed = f"; {_listed(found)}" if found else ""
        raise AssertionError(f"{self.name}: silent are {', '.join(waiting)}{blamed}: {why}{listed}")

    def _said(self) -> str:
        """What the program said of its own end, if it did. Where its tasks are is kept with the evidence."""
        try:
            kept = self.guest.run(_TASKS.format(self.program[:15]), LAST_WORDS)
            (self.guest.directory / f"silent-{self.name}.log").write_text(kept)
            said = self.guest.run(f"cat /run/{self.name}.log", LAST_WORDS).strip()
        except CprError:
            return "; the guest's shell does not answer either"
        return f"; its program says: {said}" if said else ""

    def _blame(self, found: Sequence[Problem]) -> str:
        """The phases to blame for silence on a target. What the checker finds is better evidence.

        A target that died had been told to run the guest.
        """
        if self.guest.machine is self._running_on or any(problem.phases for problem in found):
            return ""
        return " " + tag(*(("resume",) if self.guest.machine.gone() else self.stalls))

    def _gone(self) -> str:
        """Why waiting is in vain: QEMU has ended, the guest has been reset, or there are two of it."""
        machine = self.guest.machine
        reset = any(event.name in ("RESET", "SHUTDOWN") for event in machine.qmp.events)
        if self.history.problems(self.name):
            return "its reports are in disorder"
        return machine.gone() or ("the guest crashed, or was reset" if reset else "")

    def check_artefacts(self) -> None:  # noqa: B027 - most have none
        """Judge what lies outside the guest while it runs. Raises AssertionError."""

    def post_mortem(self) -> list[Problem]:
        """What the artefacts tell when the guest can say no more."""
        return []


def fail_with(name: str, problems: Sequence[Problem]) -> None:
    """Raises AssertionError with `problems`, if there are any."""
    if problems:
        raise AssertionError(f"{name}: {_listed(problems)}")


def _listed(problems: Sequence[Problem]) -> str:
    more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
    return "; ".join(str(problem) for problem in problems[:SHOWN]) + more
