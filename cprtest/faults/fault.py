# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fault is: a named failure that strikes one transfer at a known instant, and is undone after it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cprtest.errors import CprError

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer


class NotStruck(CprError):
    """A fault was armed and never struck: the test has proved nothing."""


class Fault:
    """Strikes nothing: a fault overrides what it needs.

    name: the case in reports. breaks: what it breaks, in a few words. phase, side: where it strikes
    (phases of DESIGN.md; source or target). The order of calls: `arm`, the target is started, `ready`,
    `migrate`, `strike`, the transfer ends, `undo`, both sides settle, `close`, `confirm`. `undo` and `close`
    are called in any case, `undo` perhaps twice.
    """

    name = ""
    breaks = ""
    phase = ""
    side = ""

    struck_at: int | None = None
    """ns, CLOCK_MONOTONIC; None as long as there is no evidence that it struck."""
    evidence = ""

    def arm(self, transfer: Transfer) -> None:
        """Before the target is started: its command line and its channels can be changed."""

    def ready(self, transfer: Transfer) -> None:
        """The target has been started, `migrate` has not been given."""

    def strike(self, transfer: Transfer) -> None:
        """`migrate` has been answered: wait for the instant, strike, and say so with `struck`."""

    def undo(self, transfer: Transfer) -> None:
        """Take back what would outlive the transfer."""

    def close(self) -> None:
        """Strike no more: what a roll-back could still meet is taken back here, not in `undo`."""

    def confirm(self, outcome: Outcome) -> None:
        """For a fault that strikes by itself: find the evidence in what was seen of the transfer."""

    def struck(self, evidence: str, at: int | None = None) -> None:
        """It has struck, now or `at` (ns, CLOCK_MONOTONIC). `evidence`: how we know, one sentence."""
        if self.struck_at is None:
            self.struck_at = time.monotonic_ns() if at is None else at
            self.evidence = evidence

    def about(self) -> dict[str, Any]:
        """The fault in outcome.json."""
        return {
            "name": self.name,
            "breaks": self.breaks,
            "phase": self.phase,
            "side": self.side,
            "struck": self.struck_at is not None,
            "evidence": self.evidence,
        }
