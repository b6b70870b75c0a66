# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read off the source's trace after a failure: who was told of it, how often, and when."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cprtest.aftermath import Aftermath, Expected, Floor
from cprtest.outcome import Outcome
from cprtest.timeline.clock import WallClock
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline

ROLLED_BACK = (
    "tap_cpr_freeze net0, queue 0, fd 13",
    "vhost_cpr_release dev: 0x55bc fd: 14 ret: 0",
    "migration_cpr_setup ret 0",
    "migration_cpr_failed ret 0",
    "migration_cpr_failed ret 0",
    "migration_cpr_resume running",
)


def failed(directory: Path, *lines: str, **about: Any) -> Outcome:
    """A transfer that failed, with these lines in the source's trace."""
    trace = directory / "source.trace"
    stamps = [f"2036-01-31T12:00:00.{1000 * n:06}Z {line}\n" for n, line in enumerate(lines)]
    trace.write_text("".join(stamps))
    source: Any = SimpleNamespace(trace=trace, clock=WallClock(), pid=os.getpid())
    words = [line.split(" ", 1) for line in lines]
    events = [Event(n, "source", "trace", name, data={"text": text}) for n, (name, text) in enumerate(words)]
    given: dict[str, Any] = {
        "source": source,
        "target": source,
        "timeline": Timeline(events, {}, {}),
        "directory": directory,
        "states": {"source": "running", "target": None},
        "was": "running",
        "since": 0,
        "survivor": "source",
        "reported": "failed",
        "error": "Failed to connect",
        "messages": {"source": "", "target": "killed"},
        **about,
    }
    return Outcome(**given)


def test_a_roll_back_as_it_should_be(tmp_path: Path) -> None:
    outcome = failed(tmp_path, *ROLLED_BACK)
    outcome.assert_rolled_back()
    outcome.assert_notified_once()


def test_a_device_that_hears_of_the_failure_twice(tmp_path: Path) -> None:
    outcome = failed(tmp_path, *ROLLED_BACK[:3], *["migration_cpr_failed ret 0"] * 3, ROLLED_BACK[-1])
    with pytest.raises(AssertionError, match=r"2 devices .* called 3 times \[phase rollback\]"):
        outcome.assert_notified_once()


def test_a_guest_that_is_resumed_before_its_devices_know(tmp_path: Path) -> None:
    outcome = failed(tmp_path, *ROLLED_BACK[:4], ROLLED_BACK[-1], ROLLED_BACK[4])
    with pytest.raises(AssertionError, match=r"before all devices knew .* \[phase rollback\]"):
        outcome.assert_rolled_back()


def test_a_failure_without_a_reason(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"does not say why \[phase rollback\]"):
        failed(tmp_path, *ROLLED_BACK, error="").assert_rolled_back()


def test_memory_that_is_sent(tmp_path: Path) -> None:
    outcome = failed(tmp_path, survivor="target", reported="completed", pages=3)
    with pytest.raises(AssertionError, match=r"3 pages of memory .* \[phase stream\]"):
        outcome.assert_completed()


def test_a_target_that_is_called_after_the_cancellation(tmp_path: Path) -> None:
    after = (*ROLLED_BACK, "migration_cancel ", "migration_set_outgoing_channel ioc=0x1")
    judge = Aftermath(Expected(reported=("cancelled",)), Floor({}))
    judge.judge(failed(tmp_path, *ROLLED_BACK, "migration_cancel ", reported="cancelled"))
    with pytest.raises(AssertionError, match=r"called the target all the same \[phase rollback\]"):
        judge.judge(failed(tmp_path, *after, reported="cancelled"))


def test_what_was_traced_before_is_not_read_again(tmp_path: Path) -> None:
    outcome = failed(tmp_path, "migration_cancel ", "migration_set_outgoing_channel ioc=0x1", *ROLLED_BACK)
    outcome.traced = sum(len(line) + 1 for line in outcome.source.trace.read_text().splitlines()[:2])
    Aftermath(Expected(), Floor({})).judge(outcome)
