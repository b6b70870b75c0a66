# SPDX-License-Identifier: GPL-2.0-or-later
"""Stalls of streams: which silences a pause of the guest explains."""

import re
import socket
import time

import pytest

from cprtest.workloads import connection, stalls
from cprtest.workloads.history import Operation
from cprtest.workloads.stalls import Silence

S = 10**9
BLAMED = ("stop", "resume")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pause 4.2 s are allowed."""
    monkeypatch.setattr(stalls, "stretched", lambda seconds: seconds * 2)


def silence(start: float, end: float) -> Silence:
    """So many seconds of it."""
    return Silence(int(start * S), int(end * S), int((end - start) * S), "after byte 8")


def judged(one: Silence, *pauses: tuple[float, float], rest: float = 0) -> str:
    """What is said of it, or nothing."""
    spans = [(int(start * S), int(end * S)) for start, end in pauses]
    return str(stalls.judge("tcp.0", one, rest, spans, BLAMED) or "")


def test_a_busy_machine_is_no_stall() -> None:
    assert not judged(silence(10, 14.1))


def test_a_rest_of_the_sender_is_no_stall() -> None:
    assert judged(silence(10, 14.6))
    assert not judged(silence(10, 14.6), rest=0.5)


def test_after_a_pause_the_next_try_may_come_as_late_again() -> None:
    assert not judged(silence(10, 24.1), (10.1, 15.1))
    assert judged(silence(10, 24.3), (10.1, 15.1))


def test_two_pauses_may_befall_tries_one_after_the_other() -> None:
    assert not judged(silence(10, 20), (10, 11), (13, 14))


def test_a_pause_at_another_time_explains_nothing() -> None:
    said = judged(silence(10, 15), (1, 9), (16, 30))
    assert "tcp.0: stalled for 5.0 s after byte 8, at 10.000 to 15.000 s" in said
    assert "pauses of 0.000 s explain 4.2 s at most" in said and "[phase" not in said


def test_the_phases_are_named_when_it_had_to_do_with_a_pause() -> None:
    said = judged(silence(10, 20), (11, 12))
    assert "pauses of 1.000 s explain 6.2 s at most [phase stop, resume]" in said


def chunk(number: int, start: float, end: float, unseen: float, seen: float) -> Operation:
    """A report of a chunk: from when to when by the guest's clock, and when the host had it."""
    ns = [int(t * S) for t in (start, end, seen, unseen)]
    result = ("chunk", str((number + 1) * 65536), "0", "0")
    return Operation("tcp.0", number, ns[0], ns[1], result, transfer=0, seen=ns[2], unseen=ns[3], paused=0)


def test_silences_in_the_guest_are_between_its_reports() -> None:
    (found,) = stalls.in_guest([chunk(0, 0, 1, 10, 11), chunk(1, 1, 4, 13, 14)])
    assert found == Silence(
        10 * S, 14 * S, 3 * S, "between bytes 65536 and 131072 of the stream to the guest"
    )


def test_a_clock_of_the_guest_that_jumped_is_no_silence() -> None:
    (found,) = stalls.in_guest([chunk(0, 0, 1, 10, 11), chunk(1, 1, 1000, 11, 12)])
    assert found.length == 2 * S


def test_a_sender_that_is_held_up_says_what_its_kernel_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a TCP connection whose other end reads nothing for half a second, and by one that is not TCP's."""
    monkeypatch.setattr(connection, "longest", lambda: 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        for mine, other in ((ours, theirs), socket.socketpair()):
            stream = connection.Connection("tcp.0", mine, 0)
            time.sleep(0.5)
            while not stream.jams:
                other.recv(1 << 20)
            stream.stop()
            other.close()
            stream.join()
            (jam,) = stream.jams
            assert jam.length > 0.3 * S
            told = r"timeout 0\.2\d s, .* \d+ segments sent again, 0\.[3-9] s without room there"
            assert re.search(told, jam.about) if mine is ours else not jam.about
