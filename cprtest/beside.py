# SPDX-License-Identifier: GPL-2.0-or-later
"""A transfer that goes on beside the test: what a test needs that looks at one half way."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from cprtest.errors import CprError
from cprtest.limits import stretched, wait_until
from cprtest.outcome import Outcome
from cprtest.timeline.timeline import tag

_LIMIT = 120.0


class Step(Protocol):
    """Where a transfer may be held: a hold of the syscall gate, or another thing with a name."""

    @property
    def reached(self) -> bool:
        """Whether the transfer is there, or was."""


class Beside:
    """`transfer` in a thread of its own, from the beginning of a `with` block; its end waits for the outcome.

    When the block fails, its failure counts and nothing is waited for: the test bed ends the QEMUs, and that
    ends the transfer.
    """

    def __init__(self, transfer: Callable[[], Outcome]) -> None:
        self._transfer = transfer
        self._outcome: Outcome | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="transfer", daemon=True)

    @property
    def outcome(self) -> Outcome:
        """How it ended; to be asked after the `with` block."""
        if self._outcome is None:
            raise CprError("the transfer has not ended yet: ask for its outcome after the `with` block")
        return self._outcome

    def reach(self, step: Step, seconds: float = 20) -> None:
        """Wait until the transfer has come to `step`, `seconds` (stretched) at most.

        Raises AssertionError when it ends without, and TimeLimit.
        """
        wait_until(
            f"the transfer to come to {step}",
            lambda: step.reached or not self._thread.is_alive(),
            seconds,
            lambda: "it goes on without",
        )
        if not step.reached:
            if self._failure is not None:
                raise self._failure
            came = tag(self.outcome.timeline.last() or "stop")
            raise AssertionError(
                f"the transfer ended before it came to {step}: {self.outcome.describe()} {came}"
            )

    def join(self) -> None:
        """Wait until the thread has ended. Raises CprError after 120 s (stretched)."""
        if self._thread.ident is not None:
            self._thread.join(stretched(_LIMIT))
        if self._thread.is_alive():
            raise CprError(f"waited {stretched(_LIMIT):.0f} s for the transfer to end")

    def _run(self) -> None:
        try:
            self._outcome = self._transfer()
        except BaseException as failure:
            self._failure = failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.join()
            if self._failure is not None:
                raise self._failure
