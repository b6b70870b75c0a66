# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own figure of the downtime against the timeline's."""

import pytest

from cprtest.limits import stretched
from cprtest.observe.pause import assert_told
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
