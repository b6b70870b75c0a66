# SPDX-License-Identifier: GPL-2.0-or-later
"""A transfer that goes on beside the test: what a test needs that looks at one half way."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cprtest.errors import CprError
from cprtest.limits import stretched
from cprtest.outcome import Outcome

_LIMIT = 120.0


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
