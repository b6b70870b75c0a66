# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own figure of the downtime against the timeline's; a guest that lives after its pause."""

import pytest

from cprtest.limits import stretched
from cprtest.observe.pause import assert_nothing_lost, assert_silent, assert_told
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline

STOPPED, COMPLETED = 387_000_000, 2_077_700_000
"""ns: what the source traced."""
LATE = stretched(0.001) * 1e9


def timeline(told: float | None) -> Timeline:
    traced = (
        (STOPPED, "runstate_set", "current_run_state 9 (running) new_state 7 (finish-migrate)"),
        (COMPLETED, "migrate_set_state", "new state completed"),
    )
    events = [Event(t, "source", "trace", name, data={"text": text}) for t, name, text in traced]
    return Timeline.build(events, {}, None if told is None else int(told))


@pytest.mark.parametrize("less", [0, 1.9e6, 2e6 + LATE * 0.9])
def test_the_same_but_for_rounding_and_a_thread_that_waits_for_its_cpu(less: float) -> None:
    assert_told(timeline(COMPLETED - STOPPED - less))


@pytest.mark.parametrize("less", [-3e6, 3e6 + LATE])
def test_another_time(less: float) -> None:
    with pytest.raises(AssertionError, match=r"QEMU says 16\d\d ms from stop to complete, the timeline 1690"):
        assert_told(timeline(COMPLETED - STOPPED - less))


def test_no_figure() -> None:
    with pytest.raises(AssertionError, match="QEMU gave no figure"):
        assert_told(timeline(None))


def test_a_guest_that_never_beats_again() -> None:
    seen = Timeline.build([Event(5, "guest", "heartbeat", "beat_last", data={"index": 0})], {}, None)
    with pytest.raises(AssertionError, match=r"no beat came again after it \[phase resume\]"):
        assert_silent(seen, "handover", "resume")


def test_a_guest_that_never_answers_again() -> None:
    data = {"index": 0, "doubled": [], "lost_outside_pause": [], "lost": 9, "lost_from_guest": 0}
    names = ("packet_last", "packets")
    seen = Timeline.build([Event(5, "net", "probe", name, data=data) for name in names], {}, None)
    with pytest.raises(AssertionError, match=r"no packet was answered after the pause \[phase resume\]"):
        assert_nothing_lost(seen, but_in_the_pause=True)
