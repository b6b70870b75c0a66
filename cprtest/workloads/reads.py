# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of an assigned NVMe drive that never rest: each read ends, and by an interrupt.

With one reader each read is one interrupt, so one that was lost or came twice is known by counting.
"""

from cprtest.guest.guest import Guest
from cprtest.limits import wait_until
from cprtest.machine.plugged import Passthrough
from cprtest.workloads import interrupts
from cprtest.workloads.history import Problem
from cprtest.workloads.workload import Workload

_TIMEOUT_MS = 5000
"""After which the driver looks for a completion that no interrupt announced; 30000 by default."""


class DeviceReads(Workload):
    """`readers` readers; the interrupts of one alone are counted."""

    name = "reads"
    program = "disk-reads"
    stalls = ("resume",)

    def __init__(self, guest: Guest, device: Passthrough, readers: int = 1) -> None:
        super().__init__(guest, readers)
        self._device = device
        node = block_device(guest, device)
        guest.run(f"echo {_TIMEOUT_MS} >/sys/block/{node}/queue/io_timeout")
        self._before = interrupts.count(guest, device)
        self._after: int | None = None
        self.start(f"disk-reads /dev/{node} {readers}")

    def stop(self) -> None:
        super().stop()
        if self._after is None:
            self._after = interrupts.count(self.guest, self._device)

    @property
    def interrupts(self) -> int:
        """How many interrupts the device has raised since the start, or until the end."""
        now = interrupts.count(self.guest, self._device) if self._after is None else self._after
        return now - self._before

    def judge(self) -> list[Problem]:
        """Reads that failed; with one reader, interrupts that are too few or too many."""
        found = [
            Problem(f"{op.place}: a read failed: {' '.join(op.result[1:])}")
            for op in self.operations("failed")
        ]
        done = [int(op.result[1]) for op in self.operations("end")]
        if self.reporters == 1 and done and self.interrupts != done[0]:
            what = "lost" if self.interrupts < done[0] else "more than once, or somebody else's"
            found.append(
                Problem(f"{self._device.id}: {done[0]} reads and {self.interrupts} interrupts: {what}")
            )
        return found

    def check_at_rest(self) -> None:
        """After `stop`: no interrupt comes while nothing is asked of the device. Raises AssertionError."""
        now = interrupts.count(self.guest, self._device)
        if now != self._after:
            raise AssertionError(f"{self._device.id} raised {now} interrupts at rest, {self._after} before")


def block_device(guest: Guest, device: Passthrough) -> str:
    """The guest's name of the drive's first namespace."""
    find = f"ls {device.guest_path}/nvme/*/ 2>/dev/null | grep -o 'nvme[0-9]*n[0-9]*' | head -n 1"
    return wait_until(
        f"the guest's driver to find a namespace on {device.id}", lambda: guest.run(find).strip(), 10
    )
