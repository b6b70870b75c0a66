# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells about a QEMU process, once or through a transfer."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cprtest.host import procfs
from cprtest.machine.vhost import owned
from cprtest.observe.observer import Observer
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import tag

if TYPE_CHECKING:
    from cprtest.machine.process import Machine

_KINDS = ("socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/")


class Proc(Observer):
    """Samples of both sides at the beginning and end of a transfer, and of a side at its QMP events.

    An event SAMPLE a side, data: at (the occasion), end (ns), descriptors, workers, locks, memory (KiB),
    threads. Its phase is the one it fell into. Costs CPU time while the guest is paused, so it is not on by
    default.
    """

    def __init__(self) -> None:
        self._machines: tuple[Machine, ...] = ()
        self._readings: list[tuple[int, int, str, str, Reading]] = []
        self._occasions: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, source: Machine, target: Machine) -> None:
        self._machines = (source, target)
        for machine in self._machines:
            self._look(machine, "begin")
        for machine in self._machines:
            machine.qmp.on_event = self._heard
        self._thread = threading.Thread(target=self._follow, name="proc")
        self._thread.start()

    def end(self) -> list[Event]:
        self._stop()
        for machine in self._machines:
            self._look(machine, "end")
        readings, self._readings = self._readings, []
        return [
            Event(start, actor, "proc", "SAMPLE", data={"at": occasion, "end": end, **reading.data()})
            for start, end, actor, occasion, reading in readings
        ]

    def close(self) -> None:
        self._stop()

    def _heard(self, event: Event) -> None:
        if event.name != "MIGRATION_PASS":  # no phase begins or ends with it
            self._occasions.put(event)

    def _follow(self) -> None:
        """One look at a side for all it told since the last: a look costs the pause that it is in."""
        # Takes a CPU that is free, and none from a QEMU; of this thread only.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        ended = False
        while not ended:
            heard = [self._occasions.get()]
            while not self._occasions.empty():
                heard.append(self._occasions.get())
            ended = None in heard
            for machine in self._machines:
                if told := [event.name for event in heard if event and event.actor == machine.actor]:
                    self._look(machine, " and ".join(told))

    def _stop(self) -> None:
        for machine in self._machines:
            machine.qmp.on_event = None
        if self._thread is not None:
            self._occasions.put(None)
            self._thread.join()
            self._thread = None

    def _look(self, machine: Machine, occasion: str) -> None:
        start = time.monotonic_ns()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            reading = Reading.of(machine.pid)
            self._readings.append((start, time.monotonic_ns(), machine.actor, occasion, reading))


@dataclass(frozen=True)
class Reading:
    """What /proc says of a process at one time, not looked into yet: the guest may be waiting."""

    pid: int
    files: dict[int, str]
    threads: dict[int, str]
    locking: dict[int, str]
    """What fdinfo has of the descriptors of plain files: others cannot be locked."""
    status: str

    @classmethod
    def of(cls, pid: int) -> Reading:
        """Raises FileNotFoundError or ProcessLookupError when the process has ended."""
        status = procfs.text(f"/proc/{pid}/status")
        if "VmRSS" not in status:  # a process that has ended and was not waited for has no memory
            raise ProcessLookupError(pid)
        files = procfs.files(pid)
        locking = {}
        for number, target in files.items():
            if not target.startswith(_KINDS):
                with contextlib.suppress(OSError):  # closed meanwhile
                    locking[number] = procfs.text(f"/proc/{pid}/fdinfo/{number}")
        return cls(pid, files, procfs.threads(pid), locking, status)

    def data(self) -> dict[str, Any]:
        """As an event has it."""
        status = dict(line.split(":", 1) for line in self.status.splitlines() if ":" in line)
        return {
            "descriptors": dict(_kinds(self.files)),
            "workers": owned(self.pid, self.threads),
            "locks": self.locks(),
            "memory": {name: int(status[name].split()[0]) for name in ("VmRSS", "RssShmem")},
            "threads": len(self.threads),
        }

    def locks(self) -> dict[str, int]:
        """As the function."""
        found: Counter[str] = Counter()
        for number, info in self.locking.items():
            found[self.files[number]] += info.count("lock:")
        return {file: count for file, count in found.items() if count}


def descriptors(pid: int) -> Counter[str]:
    """How many open descriptors of each kind the process has: socket, /memfd:NAME, anon_inode:[eventfd] ...

    Images and logs are left out, and numbers that differ from process to process: socket:[1234] is a socket.
    """
    return _kinds(procfs.files(pid))


class Generations:
    """What one QEMU after the other holds of a guest: no descriptor more. Those of one build are compared."""

    def __init__(self) -> None:
        self._first: dict[Path, Counter[str]] = {}

    def check(self, machine: Machine) -> None:
        """Raises AssertionError when it holds other descriptors than the first QEMU of its build."""
        held = descriptors(machine.pid)
        first = self._first.setdefault(machine.qemu, held)
        if held != first:
            more, less = dict(held - first), dict(first - held)
            raise AssertionError(f"descriptors: more {more}, less {less} than before {tag('handover')}")


def _kinds(files: dict[int, str]) -> Counter[str]:
    targets = (target for target in files.values() if target.startswith(_KINDS))
    return Counter(re.sub(r":\[\d+\]$|:\d+$", "", target) for target in targets)


def locks(pid: int) -> dict[str, int]:
    """How many file locks the process's descriptors have, by file (lines "lock:" of proc_pid_fdinfo(5)).

    Not by /proc/locks, which names no process for QEMU's: they belong to the open file (fcntl(2), OFD).
    """
    return Reading.of(pid).locks()


def threads(pid: int) -> Counter[str]:
    """How many threads of each name the process has, but for QEMU's pool workers, which come and go.

    call_rcu, the first that QEMU starts, has the process's name until it runs, or for ever, as it happens; it
    counts as having that name.
    """
    named = procfs.threads(pid)
    early = {"call_rcu": named.get(pid, "")}
    return Counter(early.get(name, name) for name in named.values() if name != "worker")


def shared_memory(pid: int) -> Counter[str]:
    """KiB that the process has mapped of each memfd, by the memfd's name."""
    found: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        area, _, rest = line.partition(" ")
        if "/memfd:" in rest:
            start, end = (int(edge, 16) for edge in area.split("-"))
            found[rest.partition("/memfd:")[2].split()[0]] += (end - start) >> 10
    return found


def private_memory(pid: int) -> str:
    """The name of a memfd that the process has mapped privately, or "": writes to it stay in the process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/memfd:") and fields[1].endswith("p"):
            return fields[5]
    return ""


def blocking_taps(pid: int) -> list[int]:
    """Descriptors of tap devices whose reads block (no O_NONBLOCK in /proc/PID/fdinfo)."""
    found = []
    for number, target in procfs.files(pid).items():
        if target == "/dev/net/tun":
            with contextlib.suppress(OSError):  # closed meanwhile
                info = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                flags = re.search(r"^flags:\s+(\d+)", info, re.M)
                if flags and not int(flags[1], 8) & os.O_NONBLOCK:
                    found.append(number)
    return found
