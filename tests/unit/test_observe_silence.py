# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs of life and what is made of them: which silence is the pause, which packets were lost."""

import itertools

from cprtest.observe import packets
from cprtest.observe.counting import events as beats
from cprtest.observe.packets import Packet
from cprtest.observe.silence import Sign, Silence, pause_among
from cprtest.timeline.agreement import disagreements
from cprtest.timeline.downtime import downtimes
from cprtest.timeline.event import Event

STARVED = Silence(Sign(0, 10), Sign(900, 910))
STOPPED = Silence(Sign(1000, 1010), Sign(1200, 1210))


def test_the_pause_is_the_silence_that_qemu_told_of_not_the_longest() -> None:
    assert pause_among([STARVED, STOPPED], (1015, 1190)) is STOPPED
    assert pause_among([STARVED, STOPPED], None) is STARVED
    assert pause_among([], (1, 2)) is None


def test_an_edge_is_as_uncertain_as_the_looks_were_far_apart() -> None:
    last, first = STOPPED.events("guest", "heartbeat", "beat")
    assert (last.name, last.t, last.err) == ("beat_last", 1005, 5)
    assert (first.name, first.t, first.err) == ("beat_first", 1205, 5)


def test_a_silence_without_end_has_no_first() -> None:
    assert [e.name for e in Silence(Sign(0, 10), 500).events("net", "probe", "packet")] == ["packet_last"]


def test_a_counter_that_goes_back_is_not_ok() -> None:
    beat = {"after": 0, "before": 10, "count": 1, "busy": 0, "clock": 5}
    vcpu = {"beats": 3, "back": 1, "first": beat, "last": beat, "silences": []}
    seen = {"begin": 0, "end": 100, "looks": 10, "longest": 10, "cpu": 1, "vcpus": [vcpu]}
    assert [(e.name, e.ok) for e in beats([seen], None, 0)] == [("beat_last", None), ("beats", False)]


def test_where_memory_is_copied_the_guest_lives_once_there_is_more_than_the_source_counted() -> None:
    def beat(t: int, count: int) -> dict[str, int]:
        return {"after": t - 5, "before": t, "count": count, "busy": 0, "clock": t}

    def seen(*beats: tuple[int, int]) -> dict[str, object]:
        made = [beat(*one) for one in beats]
        silences = [{"from": a, "to": b} for a, b in itertools.pairwise(made)]
        vcpu = {"beats": len(made), "back": 0, "first": made[0], "last": made[-1], "silences": silences}
        return {"begin": 0, "end": 1000, "looks": 10, "longest": 10, "cpu": 1, "vcpus": [vcpu]}

    source = seen((10, 1), (20, 2), (30, 3))
    copied_then_alive = seen((15, 1), (40, 3), (90, 4), (95, 5))
    found = beats([source, copied_then_alive], (32, 85), 0)
    assert [(e.name, e.t) for e in found[:2]] == [("beat_last", 28), ("beat_first", 88)]
    # It never came to life there: the silence has no end.
    assert [e.name for e in beats([source, seen((40, 3))], (32, 85), 0)] == ["beat_last", "beats"]


def _flow(*answered: tuple[int, int, int]) -> dict[str, object]:
    """Packets 1 to 6 sent at 10, 20, ... 60; `answered`: t, number, answer. The data of `packets`."""
    sent = [Packet(10 * n, n, 0) for n in range(1, 7)]
    found = packets.events([*sent, *(Packet(*a) for a in answered)], (25, 45), 0, 100, {"index": 0})
    return found[-1].data | {"ok": found[-1].ok}


def test_a_packet_that_was_sent_in_the_pause_may_be_lost() -> None:
    seen = _flow((11, 1, 1), (21, 2, 2), (51, 5, 3), (61, 6, 4))
    assert (seen["lost"], seen["lost_outside_pause"], seen["ok"]) == (2, [], True)


def test_a_packet_that_was_sent_before_an_answered_one_may_not() -> None:
    seen = _flow((21, 2, 1), (51, 3, 2), (52, 4, 3), (53, 5, 4), (61, 6, 6))
    assert (seen["lost_outside_pause"], seen["lost_from_guest"], seen["ok"]) == ([1], 1, False)


def test_a_full_queue_loses_packets_until_the_guest_has_worked_it_off() -> None:
    seen = _flow((11, 1, 1), (42, 2, 2), (55, 4, 3), (61, 6, 4))
    assert (seen["lost"], seen["lost_outside_pause"], seen["ok"]) == (2, [], True)
    seen = _flow((11, 1, 1), (42, 2, 2), (43, 3, 3), (55, 4, 4), (61, 6, 5))
    assert (seen["lost"], seen["lost_outside_pause"], seen["ok"]) == (1, [5], False)


def test_doubled_and_overtaken_packets_are_counted() -> None:
    seen = _flow((11, 1, 1), (21, 2, 2), (51, 4, 3), (52, 3, 4), (53, 3, 5), (54, 5, 7), (61, 6, 6))
    assert (seen["doubled"], seen["overtaken_to_guest"], seen["ok"]) == ([3], 3, False)
    assert seen["overtaken_from_guest"] == 1


def test_downtime_is_the_longest_of_all_vcpus() -> None:
    edges = [("beat_last", 0, 10), ("beat_last", 1, 12), ("beat_first", 0, 30), ("beat_first", 1, 40)]
    events = [Event(t, "guest", "heartbeat", name, data={"index": index}) for name, index, t in edges]
    assert downtimes(events, 7) == {"vcpu": 28, "network": None, "disk": None, "qemu": 7}


def test_a_beat_in_the_pause_that_qemu_announces_is_a_contradiction() -> None:
    def told(last: int, first: int) -> list[str]:
        stop, resume = (
            Event(100, "source", "qmp", "STOP", err=1),
            Event(200, "target", "qmp", "RESUME", err=1),
        )
        edges = (
            Event(last, "guest", "heartbeat", "beat_last", err=5),
            Event(first, "guest", "heartbeat", "beat_first"),
        )
        return disagreements(sorted([stop, resume, *edges], key=lambda e: e.t))

    assert told(105, 210) == []
    assert "[phase stop]" in told(110, 210)[0]
    assert "[phase resume]" in told(90, 190)[0]
