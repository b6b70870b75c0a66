# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a test's result when its process died or left something behind."""

import signal
from typing import Any

from avocado.core.utils import messages

Message = dict[str, Any]

_STAY = ("error", "fail", "interrupted")


def died(exitcode: int | None, stopped_for: str) -> Message:
    """The finished message of a test whose process ended without one.

    `exitcode` as in multiprocessing.Process: negative for a signal. `stopped_for` is the reason for
    which the test had been told to stop, or empty.
    """
    if stopped_for:
        reason = f"Test interrupted: {stopped_for}; it did not end when asked to and was killed."
        return dict(messages.FinishedMessage.get("interrupted", reason, fail_class="TestInterrupt"))
    if exitcode is not None and exitcode < 0:
        how = f"was killed by signal {-exitcode} ({_signal_name(-exitcode)})"
    else:
        how = f"ended with exit status {exitcode}"
    reason = f"The test's process {how} before it had a result; see runner.log and debug.log of the test."
    return dict(messages.FinishedMessage.get("error", reason, fail_class="TestDied"))


def stopped(finished: Message, reason: str) -> Message:
    """`finished` of a test that was told to stop for `reason` and then ended in an orderly way."""
    changed = dict(finished)
    if finished["result"] == "interrupted":
        changed["fail_reason"] = f"Test interrupted: {reason}."
    elif finished["result"] in _STAY:
        changed["fail_reason"] = f"Test interrupted: {reason}. Then: {finished.get('fail_reason')}"
    return changed


def with_leftovers(finished: Message, left: list[str], alive: list[str]) -> Message:
    """`finished`, made an error for the processes that were `left` behind and had to be killed.

    A result that is a failure already stays what it is and says it in addition. `alive` are those
    that even SIGKILL did not end.
    """
    said = f"The test left behind {', '.join(left)}; killed."
    if alive:
        said += f" Not even SIGKILL ended {', '.join(alive)}."
    changed = dict(finished)
    before = finished.get("fail_reason")
    if finished["result"] in _STAY:
        changed["fail_reason"] = f"{before} {said}" if before else said
    else:
        changed["result"] = "error"
        changed["fail_class"] = "LeftBehind"
        changed["fail_reason"] = f"{said} Without that it would have been {finished['result'].upper()}" + (
            f" ({before})." if before else "."
        )
    return changed


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
