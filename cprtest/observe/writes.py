# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's timed writes: when its first disk completed one. assets/guest/timed-writes.c writes."""

from cprtest.observe.counting import Counting


class Writes(Counting):
    """Observes one writer of 4 KiB blocks to the first disk of the guest booted last, by O_DIRECT.

    What is on the disk's first MiB is lost. The longest gap between two completed writes is the disk's pause.
    """

    kind = "write"
    slower = 4

    def command(self, nonce: int) -> str:
        return f"timed-writes {nonce:x} /dev/vda"
