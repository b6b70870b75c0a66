# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's heartbeat: when its vCPUs ran, seen in its memory and not told by QEMU.

assets/guest/heartbeat.c counts in a page of the guest; assets/host/sample-heartbeat.c looks at it through the
memory file, which stays the same on source and target. The longest silence is the pause; how sharp its edges
are known stands in the events' `err`; pause.py judges them. Needs neither privileges nor KVM.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, patience, stretched, wait_until
from cprtest.machine.memory import locate
from cprtest.observe.observer import Observer
from cprtest.observe.recorder import Recorder
from cprtest.observe.silence import Sign, Silence, pause_among, told_pause
from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.machine.process import Machine

_LOOK_US = 25
"""Microseconds from look to look on a fast machine."""
_BEAT_US = {"kvm": 25, "tcg": 500}
"""Microseconds from beat to beat on a fast machine. Without KVM each costs the guest much more."""

_PAGE = 4096
_HEAD = struct.Struct("<QQQ")  # nonce, period, busy: as in assets/guest/heartbeat.c
_LINE = 64


class Heartbeat(Observer):
    """Observes the first `vcpus` vCPUs of the guest booted last, each with beats of its own.

    busy: beats come not only by timer but also all the time while a vCPU has nothing else to do, which costs
    a CPU of the host.
    look_us: microseconds from look to look; by default 25, stretched. The guest beats during transfers only.
    """

    def __init__(self, *, vcpus: int = 1, busy: bool = False, look_us: float | None = None) -> None:
        self._vcpus = vcpus
        self._busy = busy
        self._look = round(1000 * (_LOOK_US * patience() if look_us is None else look_us))
        self._beat = 0
        self._page: _Page | None = None
        self._sampler: Recorder | None = None
        self._sides: Sequence[Machine] = ()
        self._since = 0

    def booted(self, guest: Guest) -> None:
        self.close()
        nonce = secrets.randbits(64)
        address = int(guest.run(f"heartbeat {nonce:x} {self._vcpus}"), 16)
        self._page = _Page(*locate(guest.machine, address), nonce, self._vcpus)
        self._beat = round(1000 * stretched(_BEAT_US[guest.spec.accel]))

    def arm(self, source: Machine) -> None:
        if self._page is None:
            raise CprError("heartbeat: the guest had been booted before this observer was added")
        self._sides = (source,)
        self._since = time.monotonic_ns()
        self._page.command(self._beat, self._busy)
        self._sampler = self._page.start_sampler(self._look)
        if self._running():
            self._wait_for_beats(self._page)

    def begin(self, source: Machine, target: Machine) -> None:
        self._sides = (source, target)

    def end(self) -> list[Event]:
        """Raises CprError when the sampler died."""
        assert self._page is not None and self._sampler is not None, "arm() comes first"
        if self._running():
            try:
                self._wait_for_beats(self._page)
            except TimeLimit:
                pass  # a guest that hangs is a finding about the transfer: there will be no beat_first
        self._page.command(0, False)
        seen = json.loads(self._sampler.finish())
        self._sampler = None
        return events(seen, told_pause(self._sides, self._since), self._since)

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.kill()
            self._sampler = None
        if self._page is not None:
            self._page.close()
            self._page = None

    def _running(self) -> bool:
        """Whether a QEMU says that it runs the guest."""
        return any(machine.run_state() == "running" for machine in self._sides)

    def _wait_for_beats(self, page: _Page) -> None:
        """Wait until every vCPU has beaten once more. Raises TimeLimit."""
        before = page.counts()
        wait_until(
            "the guest's heartbeat",
            lambda: all(new != old for old, new in zip(before, page.counts(), strict=True)),
            5,
            lambda: f"the counters stayed at {before}",
            interval=0.001,
        )


def events(seen: dict[str, Any], told: tuple[int, int] | None, since: int) -> list[Event]:
    """The events of one transfer from what the sampler printed.

    For each vCPU (`index`) `beat_last` and `beat_first`: the edges of the silence that is the pause that QEMU
    `told` of; one without end has no `beat_first`. And `beats`: how well it was watched; `ok` is false if a
    counter went back. since: when the guest was told to beat. All in ns.
    """
    found = []
    for index, one in enumerate(seen["vcpus"]):
        last = one["last"]
        silences = [Silence(_sign(index, s["from"]), _sign(index, s["to"])) for s in one["silences"]]
        if one["beats"]:
            silences.append(Silence(_sign(index, last), seen["end"]))
        pause = pause_among(silences, told)
        data = {
            "index": index,
            "seen": one["beats"],
            "back": one["back"],
            "look_ns": (seen["end"] - seen["begin"]) // seen["looks"],
            "longest_look_ns": seen["longest"],
            "sampler_cpu": round(seen["cpu"] / (seen["end"] - seen["begin"]), 3),
        }
        if pause is not None:
            data |= {
                "longest_silences_ns": sorted((s.length for s in silences), reverse=True)[:3],
                "by_timer_after_pause": last["count"] - pause.last.data["count"],
                "host_clock_ns": last["before"] - since,
                "guest_clock_ns": last["clock"] - one["first"]["clock"],
            }
            found += pause.events("guest", "heartbeat", "beat")
        found.append(Event(seen["end"], "guest", "heartbeat", "beats", ok=not one["back"], data=data))
    return found


def _sign(index: int, beat: dict[str, int]) -> Sign:
    """A beat is seen between two looks."""
    data = {"index": index, "count": beat["count"], "busy": beat["busy"]}
    return Sign(beat["after"], beat["before"], data)


class _Page:
    """The page that the guest counts in, mapped here."""

    def __init__(self, descriptor: int, offset: int, nonce: int, vcpus: int) -> None:
        self._descriptor, self._offset, self._vcpus = descriptor, offset, vcpus
        # A file of huge pages is mapped by whole ones.
        unit = max(_PAGE, os.fstat(descriptor).st_blksize)
        start = offset // unit * unit
        self._inside = offset - start
        self._map = mmap.mmap(descriptor, unit, offset=start)
        self._nonce = nonce
        if _HEAD.unpack_from(self._map, self._inside)[0] != nonce:
            self.close()
            raise CprError("heartbeat: the page that the guest counts in is not where QEMU says it is")

    def command(self, period: int, busy: bool) -> None:
        """Tell the guest how to beat. period: ns, 0: rest."""
        _HEAD.pack_into(self._map, self._inside, self._nonce, period, busy)

    def counts(self) -> list[int]:
        """The periodic counter of each vCPU."""
        lines = (self._inside + _LINE * (1 + 2 * vcpu) for vcpu in range(self._vcpus))
        return [struct.unpack_from("<Q", self._map, at)[0] for at in lines]

    def start_sampler(self, look: int) -> Recorder:
        """Start watching, every `look` ns."""
        words = [str(n) for n in (self._descriptor, self._offset, self._vcpus, look)]
        return Recorder("heartbeat: the sampler", "sample-heartbeat", words, pass_fds=[self._descriptor])

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)
