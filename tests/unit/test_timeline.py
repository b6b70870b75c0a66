# SPDX-License-Identifier: GPL-2.0-or-later
"""The timeline: clocks, phases, order, drawing."""

import json
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from cprtest.observe.trace import read_trace
from cprtest.timeline.clock import Offset, WallClock, step
from cprtest.timeline.draw import draw
from cprtest.timeline.event import Event, write_events
from cprtest.timeline.phases import PHASES, RULES, place
from cprtest.timeline.timeline import Timeline

# The order of released QEMU, as traced by 10.2.2.
LATE_STOP = [
    ("source", "migrate_set_state", "new state setup"),
    ("source", "cpr_state_save", "cpr-transfer mode"),
    ("target", "cpr_state_load", "cpr-transfer mode"),
    ("source", "migration_set_outgoing_channel", "ioc=0x1 ioctype=qio-channel-socket"),
    ("source", "runstate_set", "current_run_state 9 (running) new_state 7 (finish-migrate)"),
    ("source", "vm_stop_flush_all", "ret 0"),
    ("source", "savevm_state_header", ""),
    ("source", "migrate_set_state", "new state completed"),
    ("target", "process_incoming_migration_co_end", "ret=0"),
    ("target", "runstate_set", "current_run_state 1 (inmigrate) new_state 9 (running)"),
]


def timeline(steps: list[tuple[str, str, str]]) -> Timeline:
    events = [
        Event(1000 * n, actor, "trace", name, data={"text": text})
        for n, (actor, name, text) in enumerate(steps, 1)
    ]
    return Timeline.build(events, {}, None)


def test_every_phase_has_a_rule() -> None:
    assert [rule.phase for rule in RULES].sort() == list(PHASES).sort()
    assert {rule.phase for rule in RULES} == set(PHASES)


def test_phases_of_released_qemu() -> None:
    seen = timeline(LATE_STOP)
    assert seen.order() == ["handover", "acquire", "setup", "stop", "stream", "complete", "resume"]
    assert seen.between("stop", "resume") == 5000
    assert seen.between("stop", "rollback") is None


def test_order_of_a_qemu_that_does_it_right_and_does_not_trace_it() -> None:
    channel, stop, flushed = LATE_STOP[3:6]
    done = ("source", "runstate_set", "current_run_state 7 (finish-migrate) new_state 6 (postmigrate)")
    early = [LATE_STOP[0], stop, flushed, *LATE_STOP[1:3], channel, *LATE_STOP[6:], done]
    seen = timeline(early)
    assert "setup" not in seen.order()
    seen.assert_order()
    told = timeline([*early[:2], ("source", "migration_cpr_stop", "was running ret 0"), *early[2:]])
    with pytest.raises(AssertionError, match=r"no evidence of setup"):
        told.assert_order()


def test_order_that_holds() -> None:
    timeline(LATE_STOP).assert_order("handover", "acquire", "stop", "resume")


def test_order_that_does_not_hold_quotes_the_events() -> None:
    with pytest.raises(
        AssertionError, match=r"saw handover < stop \[phase stop\]\n(.|\n)*handover: .*cpr_state_save"
    ):
        timeline(LATE_STOP).assert_order("stop", "handover")


def test_order_needs_evidence_of_each_phase() -> None:
    with pytest.raises(AssertionError, match="no evidence of release"):
        timeline(LATE_STOP).assert_order("stop", "release")


def test_order_knows_only_the_phases() -> None:
    with pytest.raises(ValueError, match="not a phase: pause"):
        timeline(LATE_STOP).assert_order("pause", "resume")


def test_failure_shows_as_rollback() -> None:
    failed = [*LATE_STOP[:3], ("source", "migrate_set_state", "new state failed")]
    assert timeline(failed).order() == ["handover", "acquire", "rollback"]


def test_descriptors_sent_to_a_back_end_are_no_handover_where_the_process_stays() -> None:
    steps = [
        ("source", "SCM_RIGHTS_SEND", ""),
        ("source", "migrate_set_state", "completed"),
        ("source", "cpr_exec", ""),
        ("target", "cpr_state_load", ""),
    ]
    assert timeline(steps).order() == ["complete", "handover", "acquire"]
    assert timeline(steps[:2]).order() == ["handover", "complete"]


def test_event_outside_all_phases_is_kept_without_a_phase() -> None:
    seen = timeline(LATE_STOP)
    assert place(Event(1, "host", "fault", "odd"), seen.phases).phase is None
    assert seen.events[0].phase is None
    assert seen.events[1].phase == "handover"


def test_events_survive_their_file(tmp_path: Path) -> None:
    events = [
        Event(2, "target", "qmp", "RESUME", err=5, ok=True, data={"a": 1}),
        Event(1, "source", "qmp", "STOP"),
    ]
    write_events(tmp_path / "events.jsonl", events)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [Event(**json.loads(line)) for line in lines] == sorted(events, key=lambda e: e.t)


def test_files_of_a_timeline(tmp_path: Path) -> None:
    timeline(LATE_STOP).write(tmp_path)
    data = json.loads((tmp_path / "timeline.json").read_text())
    assert data["phases"]["handover"] == {"start": 2000, "end": 3000}
    assert set(data) == {"qemu", "phases", "ownership", "downtime", "violations", "events"}
    svg = ET.parse(tmp_path / "timeline.svg").getroot()
    text = "".join(svg.itertext())
    assert all(name in text for name in ("handover", "acquire", "stop", "resume", "the guest was paused"))


def test_drawing_without_events(tmp_path: Path) -> None:
    timeline([]).write(tmp_path)
    assert "no event" in (tmp_path / "timeline.svg").read_text()


def test_whatever_is_missing_the_rest_is_drawn() -> None:
    for count in range(1, len(LATE_STOP) + 1):
        for first in range(len(LATE_STOP) - count + 1):
            ET.fromstring(draw(timeline(LATE_STOP[first : first + count])))


def test_order_tells_what_would_be_right_and_quotes_what_was_not() -> None:
    with pytest.raises(AssertionError) as failure:
        timeline(LATE_STOP).assert_order()
    text = str(failure.value)
    for said in (
        "saw handover < acquire < setup < stop < stream < resume [phase stop, setup]",
        "stop should have begun before handover, 0.003 ms earlier",
        "handover: 0.002 ms (+-0 us) source/trace cpr_state_save",
        "setup should have begun before handover, 0.002 ms earlier",
    ):
        assert said in text, said


def test_clocks_that_differ_by_less_than_their_error_do_not_break_the_order() -> None:
    def seen(err: int) -> Timeline:
        sent = Event(2000, "source", "trace", "cpr_state_save", err=err, data={"text": "cpr-transfer"})
        got = Event(1000, "target", "trace", "cpr_state_load", err=err)
        return Timeline.build([sent, got], {}, None)

    seen(600).assert_order("handover", "acquire")
    with pytest.raises(AssertionError, match=r"handover should have begun before acquire, 0\.001 ms earlier"):
        seen(400).assert_order("handover", "acquire")


def test_a_timeline_judges_itself_and_shows_it(tmp_path: Path) -> None:
    seen = timeline(LATE_STOP)
    seen.write(tmp_path)
    assert "[phase stop, setup]" in json.loads((tmp_path / "timeline.json").read_text())["violations"][0]
    assert "✗ 4 stop" in (tmp_path / "timeline.svg").read_text()
    with pytest.raises(AssertionError, match="no evidence of release"):
        seen.assert_order("release")
    assert "no evidence of release" in (tmp_path / "timeline.svg").read_text()


def test_events_between_two_phases() -> None:
    seen = timeline(LATE_STOP)
    assert [e.name for e in seen.events_between("handover", "setup", actor="target")] == ["cpr_state_load"]
    seen.assert_between("handover", "setup", actor="target", name="cpr_state_load")
    with pytest.raises(
        AssertionError, match=r"savevm_state_header should come .* \[phase stream\]\n(.|\n)*0.007 ms"
    ):
        seen.assert_between("handover", "stop", actor="source", name="savevm_state_header")
    with pytest.raises(AssertionError, match="no evidence of VHOST_RESET_OWNER"):
        seen.assert_between("handover", "stop", name="VHOST_RESET_OWNER")


def owned(owner: str, start: int, end: int, queue: int = 0) -> dict[str, Any]:
    return {"device": "net0", "queue": queue, "owner": owner, "start": start, "end": end}


def test_two_owners_at_once_are_told_and_drawn_in_red() -> None:
    seen = timeline(LATE_STOP)
    with pytest.raises(AssertionError, match="no evidence of who owned any device"):
        seen.assert_never_overlaps()
    seen.ownership = [
        owned("source", 1000, 4000),
        owned("target", 4000, 9000),
        owned("target", 3000, 9000, 1),
    ]
    seen.assert_never_overlaps()
    seen.assert_never_overlaps("net0")
    assert "tl-both" not in draw(seen).partition("</style>")[2]
    with pytest.raises(AssertionError, match="no evidence of who owned vsock0"):
        seen.assert_never_overlaps("vsock0")
    seen.ownership[1]["start"] = 3500
    with pytest.raises(
        AssertionError, match=r"\[phase release, acquire\]\n  net0 queue 0: .* both for 0\.001"
    ):
        seen.assert_never_overlaps()
    assert "tl-both" in draw(seen).partition("</style>")[2]


@pytest.mark.parametrize(
    "form", ["{date}.{us:06d}Z runstate_set to (running)", "77@{s}.{us:06d}:runstate_set to (running)"]
)
def test_trace_lines_of_both_forms(tmp_path: Path, form: str) -> None:
    clock = WallClock()
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall // 10**9))
    line = form.format(date=date, s=wall // 10**9, us=wall // 1000 % 10**6)
    log = tmp_path / "trace"
    log.write_text(f"qemu: warning: not a trace\n{line}\n")
    (event,) = read_trace(log, "target", clock)
    assert (event.actor, event.name, event.data["text"]) == ("target", "runstate_set", "to (running)")
    assert before - event.err <= event.t <= after + event.err
    assert read_trace(log, "target", clock, since=after + 10**9) == []


def test_a_trace_line_at_a_whole_second_has_no_fraction(tmp_path: Path) -> None:
    log = tmp_path / "trace"
    log.write_text("2026-11-28T18:15:51Z runstate_set a\n2026-11-28T18:15:51.000003Z runstate_set b\n")
    first, second = read_trace(log, "target", WallClock())
    assert (first.name, first.data["text"], second.t - first.t) == ("runstate_set", "a", 3000)


@pytest.mark.parametrize("hour", [3600 * 10**9, -3600 * 10**9])
def test_stamps_keep_their_time_when_the_clock_is_stepped(monkeypatch: pytest.MonkeyPatch, hour: int) -> None:
    clock = WallClock()
    usual = -clock.at(0)
    stepped, back = time.monotonic_ns(), time.monotonic_ns() + 1000
    monkeypatch.setattr(
        "cprtest.timeline.clock._steps", [Offset(usual + hour, 10, stepped), Offset(usual, 10, back)]
    )
    for t, offset in ((stepped - 1, usual), (stepped + 500, usual + hour), (back + 500, usual)):
        assert clock.at(t + offset) == t
    # Made while the clock was being set.
    assert clock.at(stepped - 100 + usual + hour) == stepped - 100
    assert clock.error() < 10**9


def test_a_step_is_known_to_those_who_lived_then(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = 0
    monkeypatch.setattr("cprtest.timeline.clock._steps", [])
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead)

    def settime(_clock: int, wall: int) -> None:
        nonlocal ahead
        ahead += wall - time.time_ns()

    monkeypatch.setattr(time, "clock_settime_ns", settime)
    before = WallClock()
    step(-3600)
    after = WallClock()
    for clock in (before, after):
        assert abs(clock.at(time.time_ns()) - time.monotonic_ns()) < 10**9
        assert clock.error() < 10**9
