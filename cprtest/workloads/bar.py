# SPDX-License-Identifier: GPL-2.0-or-later
"""A pattern over all of a device's memory BAR: a page that is zero, stale or foreign is found, by its offset.

The guest checks and renews every page for ever (assets/guest/bar-pattern.c), as in the memory workload.
"""

import os

from cprtest.guest.guest import Guest
from cprtest.machine.memory import located
from cprtest.workloads.history import Problem
from cprtest.workloads.memory import difference
from cprtest.workloads.workload import Workload

_PAGE = 4096
VGA_CLASS = "0x030000"


class BarPattern(Workload):
    """The pattern in BAR `bar` of the device at `path` in the guest's sysfs.

    pause_us: microseconds of rest after each sweep.
    """

    name = "bar"
    program = "bar-pattern"

    def __init__(self, guest: Guest, path: str, bar: int, pause_us: int = 100_000) -> None:
        super().__init__(guest, 1)
        guest.run(f"echo 1 >{path}/enable")
        line = guest.run(f"cat {path}/resource").splitlines()[bar]
        self.address = int(line.split()[0], 16)
        self.start(f"bar-pattern {path}/resource{bar} {pause_us}")

    @property
    def size(self) -> int:
        """Bytes of the BAR."""
        return int(self.operations("size")[0].result[1])

    def wait_progress(self, count: int = 2, what: str | None = "sweep", seconds: float = 60) -> None:
        """Wait for whole sweeps: after two, all that was there before has been looked at."""
        super().wait_progress(count, what, seconds)

    def judge(self) -> list[Problem]:
        """The pages that the guest found wrong."""
        return [
            Problem(
                f"device memory at {offset} {difference(int(wanted, 16), int(seen, 16))} "
                f"({op.place}, {words} words)",
                ("acquire",) if op.transfer else (),
            )
            for op in self.operations("bad")
            for offset, wanted, seen, words in [op.result[1:]]
        ]

    def poke(self, contents: bytes | None) -> int:
        """Overwrite a page from outside, far from where the sweep is; returns its offset in the BAR.

        To prove the checker. contents: None for those of the page after it. The guest must be stopped, and
        the BAR be memory of QEMU's.
        """
        with located(self.guest.machine, self.address) as (descriptor, start):
            held = os.pread(descriptor, self.size, start)
            first = [held[n + 4 : n + 8] for n in range(0, len(held), _PAGE)]
            at = next((n for n, generation in enumerate(first) if generation != first[0]), 0)
            page = (at + len(first) // 2) % (len(first) - 1)
            other = held[(page + 1) * _PAGE : (page + 2) * _PAGE]
            os.pwrite(descriptor, other if contents is None else contents, start + page * _PAGE)
        return page * _PAGE


def vga(guest: Guest) -> str:
    """The guest's directory of its VGA card in sysfs."""
    found = guest.run(f"grep -l {VGA_CLASS} /sys/bus/pci/devices/*/class")
    return found.strip().removesuffix("/class")
