# SPDX-License-Identifier: GPL-2.0-or-later
"""What every unit test may rely on, however the tests were started."""

import os
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Take SIGINT again: a shell ignores it for background commands, and tests of Ctrl-C inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    """A test that leaves a run open would have the tests after it join that run."""
    before = os.environ.get("CPRTEST_RUN")
    yield
    left = os.environ.get("CPRTEST_RUN")
    if left != before:
        os.environ.pop("CPRTEST_RUN", None)
        pytest.fail(f"the test left run {left} open")
