# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: its image, and the two ways to talk to it (console shell, SSH)."""

from cprtest.errors import CprError


class GuestError(CprError):
    """The guest did not do what it was asked; the text has the command and what was seen instead."""


# Printed on the guest's console (ttyS0) once drivers are loaded, NICs have addresses and both shells listen.
READY = "CPR-GUEST-READY"


def kernel_args() -> str:
    """The kernel's command line that the guest image is made for.

    Each argument was measured under TCG; see docs/guest.md.
    """
    return " ".join(
        (
            "console=ttyS0",
            "quiet",
            "panic=-1",
        )
    )
