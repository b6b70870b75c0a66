# SPDX-License-Identifier: GPL-2.0-or-later
"""Time limits say what was awaited and what was there instead."""

import os
from collections.abc import Iterator

import pytest

from cprtest import limits


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CPRTEST_PATIENCE", "1")
    limits.patience.cache_clear()
    yield
    limits.patience.cache_clear()


def test_value_is_returned() -> None:
    answers = iter([None, 0, "there"])
    assert limits.wait_until("it", lambda: next(answers), 5) == "there"


def test_limit_names_what_was_awaited_and_what_was_seen() -> None:
    with pytest.raises(limits.TimeLimit, match="waited 0 s for the guest; instead: it sleeps"):
        limits.wait_until("the guest", lambda: False, 0.02, lambda: "it sleeps")


def test_patience_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPRTEST_PATIENCE", "20")
    limits.patience.cache_clear()
    assert limits.stretched(3) == 60


def test_patience_is_measured_once_for_all_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPRTEST_PATIENCE")
    limits.patience.cache_clear()
    assert limits.patience() >= 1
    assert os.environ["CPRTEST_PATIENCE"]


def test_a_wait_in_vain_ends_early() -> None:
    with pytest.raises(limits.TimeLimit, match="in vain for it: QEMU ended; until then: it sleeps"):
        limits.wait_until("it", lambda: False, 30, lambda: "it sleeps", vain=lambda: "QEMU ended")


def test_what_a_wait_needed_is_noted() -> None:
    answers = iter([None, None, "there"])
    limits.wait_until("it", lambda: next(answers), 0.01, interval=0.002)
    assert limits.needed() >= 0.4
