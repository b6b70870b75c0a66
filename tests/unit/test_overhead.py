# SPDX-License-Identifier: GPL-2.0-or-later
"""The interval that a median is in."""

from cprtest.overhead import confidence


def test_interval_of_the_median_is_that_of_the_tables() -> None:
    # Of 30 samples the 10th to the 21st, of 100 the 40th to the 61st.
    assert confidence(30) == (9, 20)
    assert confidence(100) == (39, 60)


def test_few_samples_give_their_whole_range() -> None:
    assert confidence(3) == (0, 2)
