# SPDX-License-Identifier: GPL-2.0-or-later
"""The packet probe: numbered packets to the guest and back, stamped by the host's kernel at the tap.

assets/host/probe-packets.c sends a packet every so often and records what passes the tap both ways;
assets/guest/echo-packets.c answers each with a number of its own. So a packet that was lost, doubled or
overtaken is known, and the way it was going (packets.py). Works with any tap, served by QEMU or by vhost.
"""

from __future__ import annotations

import select
import struct
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, stretched
from cprtest.machine.devices import GUEST_ADDRESS, Tap
from cprtest.observe.observer import Observer
from cprtest.observe.packets import Packet, events
from cprtest.observe.recorder import Recorder
from cprtest.observe.silence import told_pause
from cprtest.timeline.clock import WallClock
from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.host.network import Network
    from cprtest.machine.process import Machine

_PORT = 7009
_PERIOD_US = {"kvm": 250, "tcg": 1000}
"""Microseconds from packet to packet on a fast machine; without KVM each costs the guest much more."""
_HEAD = struct.Struct("<QQQ")  # sent, refused, missed: as in assets/host/probe-packets.c
_RECORD = struct.Struct("<QQQ")  # time, number, answer


class Probe(Observer):
    """Observes the guest's NIC on tap `index` in the test's network, during transfers.

    period_us: microseconds from packet to packet; by default 250 with KVM and 1000 without, stretched.
    """

    def __init__(self, network: Network, *, index: int = 0, period_us: float | None = None) -> None:
        self._network = network
        self._tap = Tap(index=index)
        self._period_us = period_us
        self._period = 0
        self._program: Recorder | None = None
        self._sides: Sequence[Machine] = ()
        self._since = 0

    def booted(self, guest: Guest) -> None:
        guest.run(f"echo-packets {_PORT}")
        default = stretched(_PERIOD_US[guest.spec.accel])
        self._period = round(1000 * (default if self._period_us is None else self._period_us))

    def arm(self, source: Machine) -> None:
        self._since = time.monotonic_ns()
        self._clock = WallClock()
        address, limit = GUEST_ADDRESS.format(self._tap.index), round(stretched(2) * 1e9)
        words = (self._tap.ifname, address, str(_PORT), str(self._period), str(limit))
        self._program = Recorder(
            "probe: the program", "probe-packets", words, popen=self._network.popen, bufsize=0
        )
        if source.run_state() == "running":
            self._wait_for_answer(self._program.process)

    def begin(self, source: Machine, target: Machine) -> None:
        self._sides = (source, target)

    def end(self) -> list[Event]:
        """Raises CprError when packets were not recorded, or the program died."""
        assert self._program is not None, "arm() comes first"
        data = self._program.finish().removeprefix(b"answered\n")
        self._program = None
        sent, refused, missed = _HEAD.unpack_from(data)
        if missed:
            raise CprError(f"probe: {missed} packets were not recorded: the machine was too busy")
        records = [
            Packet(self._clock.at(stamp), number, answer)
            for stamp, number, answer in _RECORD.iter_unpack(data[_HEAD.size :])
        ]
        told = told_pause(self._sides, self._since)
        figures = {"index": self._tap.index, "period_ns": self._period, "sent": sent, "refused": refused}
        return events(records, told, self._clock.error(), time.monotonic_ns(), figures)

    def close(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program = None

    def _wait_for_answer(self, program: subprocess.Popen[bytes]) -> None:
        """Wait until the guest has answered. Raises TimeLimit, or CprError when the program died."""
        assert program.stdout is not None
        limit = stretched(5)
        if not select.select([program.stdout], [], [], limit)[0]:
            raise TimeLimit(f"waited {limit:.0f} s for the guest to answer the packet probe; it was silent")
        if program.stdout.read(len("answered\n")) != b"answered\n":
            raise CprError(f"probe: the program ended: {program.communicate()[1].decode().strip()}")
