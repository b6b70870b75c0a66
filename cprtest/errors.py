# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that a person reads: what happened, and what to do about it."""


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
