# SPDX-License-Identifier: GPL-2.0-or-later
"""A program of the guest counts in a page of its memory, and the host looks on: QEMU is not asked.

assets/host/sample-heartbeat.c looks at the page through the memory file, which stays the same on source and
target. Where memory is copied instead (live migration) another one looks at the target's: there the guest
lives once its page holds more than the source's last count. How sharp the edges of the pause are known stands
in the events' `err`. Needs neither privileges nor KVM.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, patience, stretched, wait_until
from cprtest.machine.memory import locate, memory_file
from cprtest.observe.observer import Observer
from cprtest.observe.recorder import Recorder
from cprtest.observe.silence import Sign, Silence, pause_among, told_pause
from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.machine.process import Machine

_LOOK_US = 25
"""Microseconds from look to look on a fast machine."""
_PERIOD_US = {"kvm": 25, "tcg": 500}
"""Microseconds from beat to beat on a fast machine. Without KVM each costs the guest much more."""

_PAGE = 4096
_NONCE, _COMMAND = struct.Struct("<Q"), struct.Struct("<QQ")  # period, busy: as in assets/guest/counting.h
_LINE = 64


class Counting(Observer, ABC):
    """Observes the program that a subclass starts in the guest booted last; it counts in `counters` places.

    busy: as the program takes it. look_us: microseconds from look to look; by default 25, stretched. A look
    takes some 20 us of a CPU, before all others: where milliseconds matter, and not the last of their tenths,
    longer ones leave the machine to what is measured. The guest counts during transfers only.
    """

    kind: str
    """What is counted: the events are KIND_last, KIND_first and KINDs."""
    slower = 1
    """So many times longer than a heartbeat's is the period from count to count."""

    def __init__(self, counters: int = 1, *, busy: bool = False, look_us: float | None = None) -> None:
        self._counters = counters
        self._busy = busy
        self._look = round(1000 * (_LOOK_US * patience() if look_us is None else look_us))
        self._period = 0
        self._pages: list[_Page] = []
        self._samplers: list[Recorder] = []
        self._sides: Sequence[Machine] = ()
        self._since = 0

    @abstractmethod
    def command(self, nonce: int) -> str:
        """Starts the program in the guest, and prints the guest-physical address of its page."""

    def booted(self, guest: Guest) -> None:
        self.close()
        nonce = secrets.randbits(64)
        address = int(guest.run(self.command(nonce)), 16)
        self._pages = [_Page(*locate(guest.machine, address), nonce, self._counters)]
        self._period = round(1000 * self.slower * stretched(_PERIOD_US[guest.spec.accel]))

    def arm(self, source: Machine) -> None:
        if not self._pages:
            raise CprError(f"{self.kind}s: the guest had been booted before this observer was added")
        del self._pages[:-1]
        self._sides = (source,)
        self._since = time.monotonic_ns()
        self._pages[0].command(self._period, self._busy)
        self._sample(self._pages[0])
        if self._running():
            self._samplers[0].wait_line(f"the guest's {self.kind}s were seen")

    def begin(self, source: Machine, target: Machine) -> None:
        self._sides = (source, target)
        copy = self._pages[0].of(target)
        if copy is not None:
            self._pages.append(copy)
            self._sample(copy)

    def end(self) -> list[Event]:
        """Raises CprError when the sampler died."""
        assert self._samplers, "arm() comes first"
        if self._running():
            try:
                self._wait_for_counts()
            except TimeLimit:
                pass  # a guest that hangs is a finding about the transfer: there will be no KIND_first
        for page in self._pages:
            page.command(0, False)
        seen = [json.loads(sampler.finish().splitlines()[-1]) for sampler in self._samplers]
        self._samplers = []
        return events(seen, told_pause(self._sides, self._since), self._since, self.kind)

    def close(self) -> None:
        for sampler in self._samplers:
            sampler.kill()
        for page in self._pages:
            page.close()
        self._samplers, self._pages = [], []

    def _sample(self, page: _Page) -> None:
        words = [str(n) for n in (page.descriptor, page.offset, self._counters, self._look)]
        made = Recorder(f"{self.kind}s: the sampler", "sample-heartbeat", words, pass_fds=[page.descriptor])
        self._samplers.append(made)

    def _running(self) -> bool:
        """Whether a QEMU says that it runs the guest."""
        return any(machine.run_state() == "running" for machine in self._sides)

    def _wait_for_counts(self) -> None:
        """Wait until every counter has gone on, where the guest is. Raises TimeLimit."""
        before = [page.counts() for page in self._pages]

        def went_on() -> bool:
            pairs = zip(before, (page.counts() for page in self._pages), strict=True)
            return any(all(new != old for old, new in zip(*pair, strict=True)) for pair in pairs)

        stayed = f"the counters stayed at {before}"
        wait_until(f"the guest's {self.kind}s", went_on, 5, lambda: stayed, interval=0.001)


def events(
    seen: Sequence[dict[str, Any]], told: tuple[int, int] | None, since: int, kind: str = "beat"
) -> list[Event]:
    """The events of one transfer from what the sampler printed, and the target's sampler if there was one.

    For each counter (`index`) KIND_last and KIND_first: the edges of the silence that is the pause that QEMU
    `told` of; one without end has no KIND_first. And KINDs: how well it was watched; `ok` is false if a
    counter went back. since: when the guest was told to count. All in ns.
    """
    found = []
    here, *there = seen
    for index, one in enumerate(here["vcpus"]):
        last = one["last"]
        silences = [Silence(_sign(index, s["from"]), _sign(index, s["to"])) for s in one["silences"]]
        if one["beats"]:
            ended = [_first_after(other["vcpus"][index], last["count"]) for other in there]
            found_there = [_sign(index, first) for first in ended if first is not None]
            silences.append(Silence(_sign(index, last), *(found_there or [here["end"]])))
        pause = pause_among(silences, told)
        data = {
            "index": index,
            "seen": one["beats"],
            "back": one["back"],
            "look_ns": (here["end"] - here["begin"]) // here["looks"],
            "longest_look_ns": here["longest"],
            "sampler_cpu": round(here["cpu"] / (here["end"] - here["begin"]), 3),
        }
        if pause is not None:
            data |= {
                "longest_silences_ns": sorted((s.length for s in silences), reverse=True)[:3],
                "by_timer_after_pause": last["count"] - pause.last.data["count"],
                "host_clock_ns": last["before"] - since,
                "guest_clock_ns": last["clock"] - one["first"]["clock"],
            }
            found += pause.events("guest", "heartbeat", kind)
        found.append(Event(here["end"], "guest", "heartbeat", f"{kind}s", ok=not one["back"], data=data))
    return found


def _first_after(copy: dict[str, Any], count: int) -> dict[str, int] | None:
    """What the target's sampler saw first of the guest itself, and not of the copying of its memory."""
    ends = [copy["first"], *(silence["to"] for silence in copy["silences"])]
    return min((one for one in ends if one["count"] > count), key=lambda one: one["before"], default=None)


def _sign(index: int, beat: dict[str, int]) -> Sign:
    """A count is seen between two looks."""
    data = {"index": index, "count": beat["count"], "busy": beat["busy"]}
    return Sign(beat["after"], beat["before"], data)


class _Page:
    """The page that the guest counts in, mapped here. offset: where in the memory file `descriptor` it is."""

    def __init__(self, descriptor: int, offset: int, nonce: int | None, counters: int) -> None:
        self.descriptor, self.offset, self._counters = descriptor, offset, counters
        # A file of huge pages is mapped by whole ones.
        unit = max(_PAGE, os.fstat(descriptor).st_blksize)
        start = offset // unit * unit
        self._inside = offset - start
        self._map = mmap.mmap(descriptor, unit, offset=start)
        if nonce is not None and _NONCE.unpack_from(self._map, self._inside)[0] != nonce:
            self.close()
            raise CprError("the page that the guest counts in is not where QEMU says it is")

    def of(self, machine: Machine) -> _Page | None:
        """The same page in the memory of `machine`, if that has memory of its own."""
        try:
            path = memory_file(machine.pid)
        except (CprError, OSError):  # it has none before it gets the source's
            return None
        ours, found = os.fstat(self.descriptor), path.stat()
        # QEMU makes an empty memory file when it starts, to see whether it can.
        if found.st_ino == ours.st_ino or found.st_size < ours.st_size:
            return None
        return _Page(os.open(path, os.O_RDWR | os.O_CLOEXEC), self.offset, None, self._counters)

    def command(self, period: int, busy: bool) -> None:
        """Tell the guest how to count. period: ns, 0: rest."""
        _COMMAND.pack_into(self._map, self._inside + _NONCE.size, period, busy)

    def counts(self) -> list[int]:
        """The periodic counters."""
        lines = (self._inside + _LINE * (1 + 2 * place) for place in range(self._counters))
        return [struct.unpack_from("<Q", self._map, at)[0] for at in lines]

    def close(self) -> None:
        self._map.close()
        os.close(self.descriptor)
