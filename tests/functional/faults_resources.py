# SPDX-License-Identifier: GPL-2.0-or-later
"""The host has no more of something when the target starts: it needs none of it, or gives up (C-37)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults.command_line import OtherTarget
from cprtest.faults.resources import MemoryLimited, NoHugePages, ShmFull, nobody
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

COMPLETED = Expected("completed", ("completed",))
EITHER = Expected("either", ("failed", "completed"))


@needs("qemu:cpr-transfer", "lab", "root")
class Resources(FaultTest):
    """
    :avocado: tags=full
    """

    @needs("hugepages:256")
    def test_no_huge_pages_left(self):
        """A guest in huge pages is handed over when not one more is free: its own travel."""
        self.strike([Case(NoHugePages(), COMPLETED)], self.campaign(memory="hugepages"))

    def test_shm_full(self):
        """A guest is handed over when /dev/shm is full: no memory is made anew there."""
        self.strike([Case(ShmFull(), COMPLETED)])

    def test_memory_cgroup(self):
        """A target whose cgroup gives it too little memory is killed: the guest is back on the source."""
        self.strike([Case(MemoryLimited(mib), EITHER) for mib in (4, 16, 24)])

    def test_unprivileged_target(self):
        """A target of another user, who may not open the image, gives up: never half a guest."""
        self.strike([Case(OtherTarget("nobody", nobody), Expected(error=""))])
