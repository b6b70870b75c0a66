# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's heartbeat: when its vCPUs ran. assets/guest/heartbeat.c beats; pause.py judges."""

from cprtest.observe.counting import Counting


class Heartbeat(Counting):
    """Observes the first `vcpus` vCPUs of the guest booted last, each with beats of its own.

    busy: beats come not only by timer but also all the time while a vCPU has nothing else to do, which costs
    a CPU of the host. look_us: as in Counting.
    """

    kind = "beat"

    def __init__(self, *, vcpus: int = 1, busy: bool = False, look_us: float | None = None) -> None:
        super().__init__(vcpus, busy=busy, look_us=look_us)

    def command(self, nonce: int) -> str:
        return f"heartbeat {nonce:x} {self._counters}"
