# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that a person reads: what happened, and what to do about it. Standard library only."""

import os
import sys
from collections.abc import Callable

LAB_DIED = 125
"""Exit status of `scripts/lab run` when the lab itself failed, and not the command."""


class CprError(Exception):
    """Base of every error this project raises on purpose.

    The text is shown to the user as it is, without a traceback: one or two
    sentences, what happened first, what to do second.
    """


class Damage(AssertionError):
    """What a checker found broken. phase: the one it depends on, to blame unless another left evidence."""

    def __init__(self, what: str, phase: str) -> None:
        super().__init__(what)
        self.phase = phase


class UsageError(CprError):
    """The command line or a parameter is wrong. Commands exit with status 2."""


class NotInstalled(CprError):
    """Something that `scripts/setup` provides is not there yet."""


def exit_status(action: Callable[[], int], stopped: str) -> int:
    """The exit status of a command whose body is `action`; an error is one sentence on standard error.

    stopped: what it says after Ctrl-C. 141: nobody reads the output any more.
    """
    try:
        status = action()
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except CprError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough, as in `... --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
