# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: its image, and the two ways to talk to it (console shell, SSH)."""

from cprtest.errors import CprError


class GuestError(CprError):
    """The guest did not do what it was asked; the text has the command and what was seen instead."""

    phase = "acquire"
    """To blame (cprtest.errors.Damage): a guest that runs on a target with all its state lacks its memory."""


# Printed on the guest's console (ttyS0) once drivers are loaded, NICs have addresses and both shells listen.
READY = "CPR-GUEST-READY"


def kernel_args(*, emulated: bool = False) -> str:
    """The kernel's command line that the guest image is made for.

    emulated: the CPUs that the guest runs on are. What each is worth: docs/guest.md.
    """
    return " ".join(
        (
            "console=ttyS0",
            "quiet",
            # An end that the harness sees (QEMU exits with -no-reboot), not a guest that hangs.
            "panic=-1",
            # No asking the BIOS for disks, no retpolines, no wait to see the timer tick.
            "edd=off",
            "mitigations=off",
            "no_timer_check",
            # Free pages are zero, and zero pages cost nothing in a saved state.
            "init_on_free=1",
            # Two clocks cannot be read close enough together there (docs/design-notes.md).
            *(("tsc=nowatchdog",) if emulated else ()),
            # Registers of a device can be read behind its driver's back (cprtest/workloads/registers.py).
            "iomem=relaxed",
        )
    )
