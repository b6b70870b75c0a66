# SPDX-License-Identifier: GPL-2.0-or-later
"""The target is another machine, starved, late or not there: the guest is back on the source (C-20, C-37)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults import command_line as line
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

COMPLETED = Expected("completed", ("completed",))
EITHER = Expected("either", ("failed", "completed"))


@needs("qemu:cpr-transfer")
class Target(FaultTest):
    """
    :avocado: tags=full
    """

    def test_other_command_line(self):
        """A target that is another machine refuses descriptors or state, and the source rolls back (C-20)."""
        others = {
            "more-memory": line.more_memory,
            "less-memory": line.less_memory,
            "more-vcpus": line.more_vcpus,
            "no-devices": line.no_devices,
            "older-machine": line.machine("pc-q35-9.2"),  # older than any QEMU that can do this
            "other-machine": line.machine("pc"),
            "unknown-machine": line.machine("nonesuch"),
            "unknown-device": line.option("-device", "nonesuch"),
            "more-memory-slots": line.option("-m", "slots=2,maxmem=1G"),
        }
        self.strike([Case(line.OtherTarget(name, change)) for name, change in others.items()])

    def test_not_there(self):
        """The target never starts, or has no cpr channel: the guest runs on; one that starts late gets it."""
        self.strike(
            [
                Case(line.NeverStarts(), Expected(error="refused")),
                Case(line.NoCprChannel(), Expected(reported=("cancelled",))),
                Case(line.StartsLate(), COMPLETED),
            ]
        )

    def test_descriptor_limit(self):
        """A target that may open too few descriptors gives up: never half a guest (C-37)."""
        limits = {8: Expected()} | dict.fromkeys((12, 16, 20, 24, 28, 32, 40, 64), EITHER)
        self.strike([Case(limited("nofile", n, str(n)), expected) for n, expected in limits.items()])

    def test_memory_limit(self):
        """A target whose address space is too small gives up (C-37)."""
        sizes = {100: Expected(), 200: Expected()} | dict.fromkeys((400, 600, 1000), EITHER)
        self.strike([Case(limited("as", n << 20, f"{n}M"), expected) for n, expected in sizes.items()])


def limited(resource, value, name):
    """A target with that limit (prlimit(1))."""
    return line.OtherTarget(f"{resource}-{name}", line.limit(resource, value))
