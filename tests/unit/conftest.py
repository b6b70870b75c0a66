# SPDX-License-Identifier: GPL-2.0-or-later
"""What every unit test may rely on, however the tests were started."""

import signal


def pytest_configure() -> None:
    """Take SIGINT again: a shell ignores it for background commands, and tests of Ctrl-C inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
