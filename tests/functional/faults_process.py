# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process dies or stands still at any instant: never two guests, and one wherever there can be one."""

import signal

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import process
from cprtest.faults.second_target import StartedTwice
from cprtest.faults.stations import Acquired, At, Handover, Loaded, Streaming
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

CANCELLED = Expected(reported=("cancelled",))
IN_DOUBT = Expected("in-doubt", error="the target may be running it")
COMPLETED = Expected("completed", ("completed",))
STATIONS = (Handover, Acquired, Streaming)
ACKNOWLEDGED = ("trace:migration_cpr_commit",)
"""Only a source that waits for the target's acknowledgement can be held there."""


@needs("qemu:cpr-transfer")
class Processes(FaultTest):
    """
    :avocado: tags=full
    """

    def test_target_dies(self):
        """The target dies: the guest is back on the source, by `cont` if the target had said yes."""
        numbers = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
        cases = [Case(At(s(), process.Killed("target", n))) for s in STATIONS for n in numbers]
        last = [Case(At(Loaded(), process.Killed("target", n)), IN_DOUBT, ACKNOWLEDGED) for n in numbers]
        self.strike(cases + last)

    def test_source_dies(self):
        """The source is killed before it has handed the guest over: the target does not run half a guest."""
        cases = [Case(At(s(), process.Killed("source")), Expected("lost")) for s in STATIONS]
        self.strike(
            [*cases, Case(At(Loaded(), process.Killed("source")), Expected("lost"), needs=ACKNOWLEDGED)]
        )

    def test_stopped_and_continued(self):
        """A side that stands still for a while delays the transfer, and nothing else."""
        cases = [
            Case(At(s(), process.Paused(side)), COMPLETED) for s in STATIONS for side in ("source", "target")
        ]
        self.strike(cases)

    def test_target_hangs(self):
        """A target that stands still for good: `migrate_cancel` brings the guest back (C-21)."""
        cases = [Case(At(s(), process.Hung()), CANCELLED) for s in STATIONS]
        self.strike([*cases, Case(At(Loaded(), process.Hung()), CANCELLED, needs=ACKNOWLEDGED)])

    def test_target_hangs_and_goes_on(self):
        """A target that was given up goes on later: the source takes no notice (C-31)."""
        self.strike([Case(At(s(), process.HungAndBack()), CANCELLED) for s in (Handover, Acquired)])

    def test_target_started_twice(self):
        """A second target on the same addresses takes nothing away from the first, and waits (C-20)."""
        self.strike([Case(At(s(), StartedTwice()), COMPLETED) for s in STATIONS])
