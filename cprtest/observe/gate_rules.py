# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules of the gate: what happens to a call instead of its being done at once."""

import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Protocol

from cprtest.limits import TimeLimit, stretched
from cprtest.observe.gate_log import ANSWER, CONTINUE
from cprtest.timeline.event import Event


class Answerer(Protocol):
    """What a rule needs of its gate."""

    def answer(self, index: int, how: int, value: int = 0) -> None:
        """Let call `index` go on."""

    def event(self, index: int) -> Event:
        """Call `index` as an event, as far as it has come."""

    def forget(self, rule: "Rule") -> None:
        """The rule will not strike again."""


class Rule:
    """What happens to the `nth` call (None: to each) that matches `pattern` and `actor`, counted from now.

    pattern: a name of gate_calls.NAMES, or with * in it. actor: source, target, or None for both.
    """

    def __init__(self, gate: Answerer, pattern: str, actor: str | None, nth: int | None) -> None:
        self.pattern = pattern
        self.actor = actor
        self.nth = nth
        self._gate = gate
        self._seen = 0
        self._struck: list[int] = []

    @property
    def struck(self) -> int:
        """How often it struck."""
        return len(self._struck)

    @property
    def events(self) -> list[Event]:
        """The calls that it struck."""
        return [self._gate.event(index) for index in self._struck]

    def takes(self, index: int, event: Event) -> bool:
        """Whether call `index` is this rule's; to be asked once for each call."""
        if not fnmatchcase(event.name, self.pattern) or self.actor not in (None, event.actor):
            return False
        self._seen += 1
        if self.nth not in (None, self._seen):
            return False
        self._struck.append(index)
        if self.nth is not None:
            self._gate.forget(self)
        return True

    def strike(self, index: int) -> None:
        """Do to call `index` what the rule is for. Runs in the gate's thread: must not block."""
        raise NotImplementedError

    def cancel(self) -> None:
        """No call is struck from now on."""
        self._gate.forget(self)

    def __str__(self) -> str:
        whose = f"{self.actor}'s" if self.actor else "either side's"
        return f"{whose} {self.pattern}" + (f", call {self.nth}" if self.nth else "")


class Answer(Rule):
    """The call is not done; the program gets `value`, a negative errno, or 0 for a success that is none."""

    def __init__(self, gate: Answerer, pattern: str, actor: str | None, nth: int | None, value: int) -> None:
        super().__init__(gate, pattern, actor, nth)
        self._value = value

    def strike(self, index: int) -> None:
        self._gate.answer(index, ANSWER, self._value)


class Delay(Rule):
    """The call is done after `seconds` (as the clock has them, not stretched)."""

    def __init__(
        self, gate: Answerer, pattern: str, actor: str | None, nth: int | None, seconds: float
    ) -> None:
        super().__init__(gate, pattern, actor, nth)
        self._seconds = seconds

    def strike(self, index: int) -> None:
        timer = threading.Timer(self._seconds, self._gate.answer, (index, CONTINUE))
        timer.daemon = True
        timer.start()


class Hold(Rule):
    """The call is parked in the kernel, before it is done, until `release`."""

    def __init__(
        self,
        gate: Answerer,
        pattern: str,
        actor: str | None,
        nth: int | None,
        progress: Callable[[], str],
    ) -> None:
        super().__init__(gate, pattern, actor, nth)
        self._progress = progress
        self._news = threading.Condition()
        self._parked: list[int] = []
        self._reached = False
        self._released: tuple[int, int] | None = None

    @property
    def reached(self) -> bool:
        """Whether a call is, or was, parked."""
        return self._reached

    def strike(self, index: int) -> None:
        with self._news:
            if self._released is None:
                self._parked.append(index)
                self._reached = True
                self._news.notify_all()
                return
        self._gate.answer(index, *self._released)

    def wait(self, seconds: float = 10) -> Event:
        """Wait until a call is parked and return it. `seconds` is stretched. Raises TimeLimit."""
        limit = stretched(seconds)
        with self._news:
            if not self._news.wait_for(lambda: bool(self._parked), limit):
                raise TimeLimit(f"waited {limit:.0f} s for {self}; instead: {self._progress()}")
            return self._gate.event(self._parked[-1])

    def release(self, error: int = 0) -> None:
        """Let parked calls go on, or fail with errno `error`; no further call is parked."""
        self._gate.forget(self)
        with self._news:
            self._released = (ANSWER, -error) if error else (CONTINUE, 0)
            parked, self._parked = self._parked, []
        for index in parked:
            self._gate.answer(index, *self._released)

    def cancel(self) -> None:
        """As `release`."""
        self.release()
