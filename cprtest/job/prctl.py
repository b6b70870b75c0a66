# SPDX-License-Identifier: GPL-2.0-or-later
"""Two settings of prctl(2) that Python does not offer. Numbers: include/uapi/linux/prctl.h."""

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def set_subreaper() -> None:
    """Inherit orphaned descendants from now on. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(number: int) -> None:
    """Get signal `number` when the thread that started this process ends. Raises OSError.

    So it is of use only for processes started by a main thread.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
