# SPDX-License-Identifier: GPL-2.0-or-later
"""The file in which a run writes down what it is about to leave on the host.

One JSON object a line, only ever appended to, so that several processes of a run can write and a
process killed in the middle of a line spoils nothing but that line:

    {"pid": 71, "command": [...], "started": "2026-...", "machine": "...", "boot": "..."}    the first line
    {"scratch": "/tmp/cpr-..."}                          written before the directory is made
    {"bound": "0000:01:00.0", "driver": "virtio-pci"}    written before the device is taken from its driver
    {"returned": "0000:01:00.0"}                         written after the device was given back
    {"mdev": "83b8f4f2-..."}                             written before a mediated device is made
    {"tracer": "cpr_..."}                                written before the kernel's tracer gets an instance
    {"process": 99, "start": 12345}                      forked without exec, so without the mark
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")


@dataclass
class Record:
    """What a journal says is still there."""

    header: dict[str, Any] = field(default_factory=dict)
    scratch: list[Path] = field(default_factory=list)
    bound: dict[str, str | None] = field(default_factory=dict)
    mdevs: list[str] = field(default_factory=list)
    tracers: list[str] = field(default_factory=list)
    processes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def from_elsewhere(self) -> bool:
        """Written on another machine that shares this directory, for example an NFS home."""
        return self.header.get("machine") != machine_id()

    @property
    def from_earlier_boot(self) -> bool:
        """Written before this machine was rebooted: its processes and bindings are gone."""
        return self.header.get("boot") != boot_id()


def machine_id() -> str:
    """What tells this machine from others (machine-id(5)), or its host name where there is none."""
    try:
        return _MACHINE_ID.read_text().strip() or os.uname().nodename
    except OSError:
        return os.uname().nodename


def boot_id() -> str:
    """The kernel's random id of this boot (random(4))."""
    return _BOOT_ID.read_text().strip()


def header() -> dict[str, Any]:
    """The first line of this process's journal."""
    return {
        "pid": os.getpid(),
        "command": sys.orig_argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine_id(),
        "boot": boot_id(),
    }


def append(path: Path, **entry: Any) -> None:
    """Add one line. Raises FileNotFoundError when the run has been cleaned away."""
    line = json.dumps(entry) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> Record:
    """What the journal at `path` says; a line cut short by a kill is passed over."""
    record = Record()
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        _apply(record, entry)
    return record


def _apply(record: Record, entry: dict[str, Any]) -> None:
    match entry:
        case {"pid": int()}:
            record.header = entry
        case {"scratch": str(path)}:
            record.scratch.append(Path(path))
        case {"bound": str(address), "driver": driver}:
            # A second binding within one run must not forget the driver the device came from.
            record.bound.setdefault(address, driver)
        case {"returned": str(address)}:
            record.bound.pop(address, None)
        case {"mdev": str(name)}:
            record.mdevs.append(name)
        case {"tracer": str(name)}:
            record.tracers.append(name)
        case {"process": int(pid), "start": int(start)}:
            record.processes.append((pid, start))
