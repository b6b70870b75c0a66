# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbered packets: what a checker must not take for trouble, and what it must."""

from cprtest.workloads.arrivals import Way
from cprtest.workloads.history import Operation


def run(first: int, count: int = 1, *, at: int = 0, until: int = 0, transfer: int = 0) -> Operation:
    result = ("heard", str(first), str(count))
    return Operation("udp.0", first, at, until or at, result, transfer, 0, 0, 0)


def said(way: Way) -> list[str]:
    return [str(problem) for problem in way.problems()]


def test_what_arrives_in_order_is_well() -> None:
    assert said(Way("f", [run(0, 32), run(32, 8)], [run(0, 20), run(20, 20)])) == []


def test_what_is_under_way_is_not_lost_before_the_end() -> None:
    way = Way("f", [run(0, 10)], [run(0, 5)], complete=False)
    assert said(way) == []


def test_a_packet_that_its_followers_overtook_for_good_is_lost() -> None:
    (problem,) = said(Way("f", [run(0, 10)], [run(0, 5), run(6, 2)], complete=False))
    assert "f: packet 5 was lost, sent while the guest was running" in problem


def test_the_tail_is_lost_when_both_ends_are_done() -> None:
    (problem,) = said(Way("f", [run(0, 10)], [run(0, 5)]))
    assert "5 packets of 5 to 9 were lost" in problem


def test_only_what_was_sent_in_a_pause_may_be_lost() -> None:
    sent = [run(0, 5, at=10, until=20), run(5, 5, at=30, until=40), run(10, 5, at=50, until=60)]
    way = Way("f", sent, [run(0, 5), run(12, 3)], pauses=[(35, 45)])
    assert way.excused == 5
    (problem,) = said(way)
    assert "2 packets of 10 to 11 were lost" in problem


def test_a_damaged_packet_is_not_lost_as_well() -> None:
    assert said(Way("f", [run(0, 3)], [run(0, 1), run(2, 1)], spoilt=frozenset([1]))) == []


def test_a_packet_that_comes_twice() -> None:
    (problem,) = said(Way("f", [run(0, 4)], [run(0, 3), run(2, 2)]))
    assert "packet 2 was not for the first time" in problem


def test_order_may_be_as_bad_as_it_was_before_the_first_transfer() -> None:
    sent = [run(0, 20)]
    before = [run(0, 3), run(5, 1), run(3, 2), run(6, 4)]
    assert said(Way("f", sent, [*before, run(12, 1, transfer=1), run(10, 2), run(13, 7)])) == []
    (problem,) = said(Way("f", sent, [*before, run(13, 1), run(10, 3, transfer=1), run(14, 6)]))
    assert "packet 10 came after packet 13" in problem
