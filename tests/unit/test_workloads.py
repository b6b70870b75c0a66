# SPDX-License-Identifier: GPL-2.0-or-later
"""Checkers on made-up evidence: what they must not take for damage, and what they must."""

from array import array

import pytest

from cprtest.workloads import connection, memory
from cprtest.workloads.weighted import weighted


def page(*words: int) -> bytes:
    """A page of these words in turn."""
    return array("Q", [words[n % len(words)] for n in range(512)]).tobytes()


def word(generation: int, number: int) -> int:
    """The word of a page."""
    return generation << 32 | number


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_a_page_may_be_ahead_of_the_last_report(ahead: int) -> None:
    assert memory._compare(page(word(5 + ahead, 7)), 7, 5) is None


def test_a_page_may_be_half_renewed() -> None:
    assert memory._compare(page(word(5, 7), word(6, 7)), 7, 5) is None


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (page(0), "is zero"),
        (page(word(4, 7)), "is stale: generation 4 instead of 5"),
        (page(word(5, 8)), "is foreign: it holds page 8 instead of 7"),
        (page(word(5, 7))[:-1] + b"\xff", "is damaged"),
    ],
)
def test_a_wrong_page_is_told_by_what_it_holds(held: bytes, said: str) -> None:
    wrong = memory._compare(held, 7, 5)
    assert wrong is not None
    problem = str(memory._problem(0x1234000, *wrong, "here", 1))
    assert said in problem and "0x1234000" in problem and "[phase acquire]" in problem


def test_chunks_of_a_stream_follow_each_other() -> None:
    first, second = (array("Q", connection.chunk(number)) for number in (0, 1))
    assert list(first + second) == list(range(2 * connection.CHUNK // 8))


def test_a_stream_begins_anew_after_more_than_can_be_under_way() -> None:
    period = (1 << 20) * 8 // connection.CHUNK
    assert connection.chunk(period) == connection.chunk(0) != connection.chunk(period - 1)


@pytest.mark.parametrize("chunks", [0, 1, 2, 127, 128, 129, 300])
def test_the_sum_of_a_stream_is_that_of_its_chunks(chunks: int) -> None:
    assert connection.total(chunks) == sum(weighted(connection.chunk(n)) for n in range(chunks)) % 2**64


def test_a_weighted_sum_is_that_of_the_definition() -> None:
    words = [3, 1 << 63, 5]
    assert weighted(array("Q", words).tobytes()) == sum(w * (2 * n + 1) for n, w in enumerate(words)) % 2**64


@pytest.mark.parametrize("bit", [0, 7, 63])
@pytest.mark.parametrize("at", [0, 1, 8, 63])
def test_a_weighted_sum_sees_every_bit_and_every_place(at: int, bit: int) -> None:
    words = array("Q", range(64))
    before = weighted(words.tobytes())
    words[at] ^= 1 << bit
    assert weighted(words.tobytes()) != before


def test_a_weighted_sum_sees_words_that_changed_places() -> None:
    assert weighted(array("Q", [1, 2]).tobytes()) != weighted(array("Q", [2, 1]).tobytes())
