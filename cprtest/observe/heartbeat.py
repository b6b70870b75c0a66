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
import signal
import struct
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, patience, stretched, wait_until
from cprtest.observe.guest_memory import locate
from cprtest.observe.observer import Observer
from cprtest.provision.programs import host_program
from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.machine.process import Machine

_LOOK_US = 25
"""Microseconds from look to look on a fast machine."""
_BEAT_US = {"kvm": 25, "tcg": 500}
"""Microseconds from beat to beat on a fast machine. Without KVM each costs the guest much more."""

_PAGE = 4096
_HEAD = struct.Struct("<QQ")  # nonce, period: as in assets/guest/heartbeat.c
_LINE = 64


class Heartbeat(Observer):
    """Observes the first `vcpus` vCPUs of the guest booted last, each with a beat of its own.

    look_us: microseconds from look to look; by default 25, stretched. The guest beats during transfers only.
    """

    def __init__(self, *, vcpus: int = 1, look_us: float | None = None) -> None:
        self._vcpus = vcpus
        self._look = round(1000 * (_LOOK_US * patience() if look_us is None else look_us))
        self._beat = 0
        self._page: _Page | None = None
        self._sampler: subprocess.Popen[bytes] | None = None
        self._sides: Sequence[Machine] = ()

    def booted(self, guest: Guest) -> None:
        self.close()
        nonce = secrets.randbits(64)
        address = int(guest.run(f"heartbeat {nonce:x} {self._vcpus}"), 16)
        self._page = _Page(*locate(guest.machine, address), nonce, self._vcpus)
        self._beat = round(1000 * stretched(_BEAT_US[guest.spec.accel]))

    def begin(self, source: Machine, target: Machine) -> None:
        if self._page is None:
            raise CprError("heartbeat: the guest had been booted before this observer was added")
        self._sides = (source, target)
        self._page.set_period(self._beat)
        self._sampler = self._page.start_sampler(self._look)
        if self._running():
            self._wait_for_beats(self._page)

    def end(self) -> list[Event]:
        """Raises CprError when the sampler died."""
        assert self._page is not None and self._sampler is not None, "begin() comes first"
        if self._running():
            try:
                self._wait_for_beats(self._page)
            except TimeLimit:
                pass  # a guest that hangs is a finding about the transfer: there will be no beat_first
        self._page.set_period(0)
        self._sampler.send_signal(signal.SIGTERM)
        out, err = self._sampler.communicate(timeout=stretched(10))
        status, self._sampler = self._sampler.returncode, None
        if status:
            raise CprError(f"heartbeat: the sampler ended with status {status}: {err.decode().strip()}")
        return events(json.loads(out))

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.kill()
            self._sampler.communicate()
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


def events(seen: dict[str, Any]) -> list[Event]:
    """The events of one transfer from what the sampler printed.

    For each vCPU (`index`) `beat_last` and `beat_first`, the edges of its longest silence, and `beats`: how
    well it was watched; `ok` is false if the counter went back. A silence without end has no `beat_first`.
    """
    found = []
    for vcpu, one in enumerate(seen["vcpus"]):
        silences = sorted(one["silences"], key=_length, reverse=True)
        longest = _length(silences[0]) if silences else 0
        if one["beats"] and seen["end"] - one["last"]["before"] > max(longest, 10 * seen["longest"]):
            found.append(_beat("beat_last", vcpu, one["last"]))
        elif silences:
            found.append(_beat("beat_last", vcpu, silences[0]["from"]))
            found.append(_beat("beat_first", vcpu, silences[0]["to"]))
        first, last = one["first"], one["last"]
        data = {
            "index": vcpu,
            "seen": one["beats"],
            "back": one["back"],
            "look_ns": (seen["end"] - seen["begin"]) // seen["looks"],
            "longest_look_ns": seen["longest"],
            "second_silence_ns": _length(silences[1]) if len(silences) > 1 else None,
            "host_clock_ns": last["after"] - first["after"],
            "guest_clock_ns": last["clock"] - first["clock"],
            "sampler_cpu": round(seen["cpu"] / (seen["end"] - seen["begin"]), 3),
        }
        found.append(Event(seen["end"], "guest", "heartbeat", "beats", ok=not one["back"], data=data))
    return found


def _length(silence: dict[str, Any]) -> int:
    """ns for which there was no beat for certain."""
    return int(silence["to"]["after"] - silence["from"]["before"])


def _beat(name: str, vcpu: int, beat: dict[str, int]) -> Event:
    """A beat, seen between two looks: in the middle, give or take half of the time between them."""
    err = (beat["before"] - beat["after"] + 1) // 2
    data = {"index": vcpu, "count": beat["count"]}
    return Event(beat["after"] + err, "guest", "heartbeat", name, err=err, data=data)


class _Page:
    """The page that the guest counts in, mapped here."""

    def __init__(self, descriptor: int, offset: int, nonce: int, vcpus: int) -> None:
        self._descriptor, self._offset, self._vcpus = descriptor, offset, vcpus
        # A file of huge pages is mapped by whole ones.
        unit = max(_PAGE, os.fstat(descriptor).st_blksize)
        start = offset // unit * unit
        self._inside = offset - start
        self._map = mmap.mmap(descriptor, unit, offset=start)
        if _HEAD.unpack_from(self._map, self._inside)[0] != nonce:
            self.close()
            raise CprError("heartbeat: the page that the guest counts in is not where QEMU says it is")

    def set_period(self, nanoseconds: int) -> None:
        """From beat to beat; 0: rest."""
        struct.pack_into("<Q", self._map, self._inside + 8, nanoseconds)

    def counts(self) -> list[int]:
        """The counter of each vCPU."""
        lines = (self._inside + _LINE * (1 + vcpu) for vcpu in range(self._vcpus))
        return [struct.unpack_from("<Q", self._map, at)[0] for at in lines]

    def start_sampler(self, look: int) -> subprocess.Popen[bytes]:
        """Start watching, every `look` ns."""
        words = (str(n) for n in (self._descriptor, self._offset, self._vcpus, look))
        return subprocess.Popen(
            [str(host_program("sample-heartbeat")), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[self._descriptor],
        )

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)
