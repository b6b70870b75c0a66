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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cprtest.host import procfs
from cprtest.machine.vhost import workers
from cprtest.observe.observer import Observer
from cprtest.timeline.event import Event

if TYPE_CHECKING:
    from cprtest.machine.process import Machine

_KINDS = ("socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/")


class Proc(Observer):
    """Samples of both sides: at the beginning and end of a transfer, and at every QMP event of either.

    An event SAMPLE a side, data: at (the occasion), end (ns), descriptors, workers, locks, memory (KiB),
    threads. Its phase is the one it fell into. Costs CPU time while the guest is paused, so it is not on by
    default.
    """

    def __init__(self) -> None:
        self._machines: tuple[Machine, ...] = ()
        self._samples: list[Event] = []
        self._occasions: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, source: Machine, target: Machine) -> None:
        self._machines = (source, target)
        self._take("begin")
        for machine in self._machines:
            machine.qmp.on_event = lambda event: self._occasions.put(f"{event.actor} {event.name}")
        self._thread = threading.Thread(target=self._follow, name="proc")
        self._thread.start()

    def end(self) -> list[Event]:
        self._stop()
        self._take("end")
        samples, self._samples = self._samples, []
        return samples

    def close(self) -> None:
        self._stop()

    def _follow(self) -> None:
        while (occasion := self._occasions.get()) is not None:
            self._take(occasion)

    def _stop(self) -> None:
        for machine in self._machines:
            machine.qmp.on_event = None
        if self._thread is not None:
            self._occasions.put(None)
            self._thread.join()
            self._thread = None

    def _take(self, occasion: str) -> None:
        for machine in self._machines:
            start = time.monotonic_ns()
            try:
                seen = sample(machine.pid)
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            data = {"at": occasion, "end": time.monotonic_ns(), **seen}
            self._samples.append(Event(start, machine.actor, "proc", "SAMPLE", data=data))


def sample(pid: int) -> dict[str, Any]:
    """What process `pid` has now. Raises FileNotFoundError or ProcessLookupError when it has ended."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    if "VmRSS" not in status:  # a process that has ended and was not waited for has no memory
        raise ProcessLookupError(pid)
    return {
        "descriptors": dict(descriptors(pid)),
        "workers": workers(pid),
        "locks": locks(pid),
        "memory": {name: int(status[name].split()[0]) for name in ("VmRSS", "RssShmem")},
        "threads": int(status["Threads"]),
    }


def descriptors(pid: int) -> Counter[str]:
    """How many open descriptors of each kind the process has: socket, /memfd:NAME, anon_inode:[eventfd] ...

    Images and logs are left out, and numbers that differ from process to process: socket:[1234] is a socket.
    """
    targets = (target for target in procfs.files(pid).values() if target.startswith(_KINDS))
    return Counter(re.sub(r":\[\d+\]$|:\d+$", "", target) for target in targets)


def locks(pid: int) -> dict[str, int]:
    """How many file locks the process's descriptors have, by file (lines "lock:" of proc_pid_fdinfo(5)).

    Not by /proc/locks, which names no process for QEMU's: they belong to the open file (fcntl(2), OFD).
    """
    found: Counter[str] = Counter()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            count = info.read_text().count("lock:")
            if count:
                found[str(Path(f"/proc/{pid}/fd/{info.name}").readlink())] += count
        except OSError:  # closed meanwhile
            continue
    return dict(found)


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
