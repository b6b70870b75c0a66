# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's tracer, through tracefs: an instance of our own, with probes of our own.

An instance (Documentation/trace/ftrace.rst, "Instances") has its own buffer, clock, filters and switches, so
nobody else's tracing is disturbed or disturbs ours. Probes are defined for the whole machine
(Documentation/trace/kprobetrace.rst), in a group that has the instance's name. Both are in the run's journal
before they are made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cprtest.errors import CprError

if TYPE_CHECKING:
    from cprtest.host.runs import Run

ROOT = Path("/sys/kernel/tracing")
_BUFFER_KIB = 2048
_READ = 1 << 16


def unusable() -> str | None:
    """Why this process cannot trace the kernel here, in one sentence; None if it can."""
    if os.geteuid() != 0:
        return "Only root may trace the kernel."
    if not (ROOT / "dynamic_events").exists():
        return f"{ROOT} has no dynamic_events: mount tracefs there, on a kernel with CONFIG_KPROBE_EVENTS."
    if "<argname>" not in (ROOT / "README").read_text():
        return "Probes cannot name arguments here: that takes Linux 6.6 with CONFIG_PROBE_EVENTS_BTF_ARGS."
    return None


class Instance:
    """An instance of the tracer with its probes, on CLOCK_MONOTONIC; nothing is switched on yet.

    `probes`: definitions as in kprobe_events, with {group} for the name of our group; `optional` ones are
    only made where the kernel has their function (a module may not be loaded). Raises CprError where the
    kernel refuses one.
    """

    def __init__(self, run: Run, probes: Sequence[str], optional: Sequence[str] = ()) -> None:
        self.name = f"cpr_{os.urandom(4).hex()}"
        self._path = ROOT / "instances" / self.name
        self._pipe = -1
        self._probes = {_name(probe) for probe in (*probes, *optional)}
        run.note(tracer=self.name)
        self._path.mkdir()
        try:
            self._write("buffer_size_kb", str(_BUFFER_KIB))
            self._write("trace_clock", "mono")
            for probe in probes:
                self._define(probe)
            for probe in optional:
                try:
                    self._define(probe)
                except CprError:
                    self._probes.remove(_name(probe))
        except BaseException:
            self.close()
            raise
        self._pipe = os.open(self._path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def switch_on(self, filters: Mapping[str, str]) -> None:
        """Record the events that are the keys, where the filter holds; "" is every one.

        An event is GROUP/NAME, or NAME for a probe of our own.
        """
        for event, condition in filters.items():
            if "/" not in event and event not in self._probes:
                continue  # an optional one
            directory = self._event(event)
            if condition:
                self._write(f"{directory}/filter", condition)
            self._write(f"{directory}/enable", "1")

    def switch_off(self, events: Sequence[str]) -> None:
        """Stop recording these events."""
        for event in self._probes.intersection(events):
            self._write(f"{self._event(event)}/enable", "0")

    def read(self) -> list[str]:
        """What was recorded since the last call, a line an event. Raises CprError if the kernel lost one."""
        chunks = []
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipe, _READ):
                chunks.append(chunk)
        lines = b"".join(chunks).decode(errors="replace").splitlines()
        if lost := [line for line in lines if "LOST" in line and "EVENTS" in line]:
            raise CprError(f"The kernel's tracer ran out of its {_BUFFER_KIB} KiB: {lost[0].strip()}")
        return lines

    def missed(self) -> int:
        """How often a probe called as one of ours was passed unrecorded (kprobe_profile, last column)."""
        lines = [line.split() for line in (ROOT / "kprobe_profile").read_text().splitlines()]
        return sum(int(line[-1]) for line in lines if line[0] in self._probes)

    def close(self) -> None:
        """Remove instance and probes. Safe to call twice."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        remove(self.name)

    def _define(self, probe: str) -> None:
        _write(ROOT / "dynamic_events", probe.format(group=self.name))

    def _event(self, event: str) -> str:
        return f"events/{event}" if "/" in event else f"events/{self.name}/{event}"

    def _write(self, file: str, text: str) -> None:
        _write(self._path / file, text)


def remove(name: str) -> bool:
    """Remove an instance and its probes, by whomever they were left. Returns whether there was anything."""
    instance = ROOT / "instances" / name
    there = instance.exists()
    if there:
        instance.rmdir()  # switches its events off
    if f"{name}/" in (ROOT / "dynamic_events").read_text():
        there = True
        _write(ROOT / "dynamic_events", f"-:{name}/")
    return there


def _name(probe: str) -> str:
    """The event's name in a definition: p:GROUP/NAME PLACE ARGUMENTS."""
    return probe.split(maxsplit=1)[0].partition("/")[2]


def _write(path: Path, text: str) -> None:
    try:
        # Not truncated, which would remove the probes of others, and without a seek to the end, which fails.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{text}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CprError(f"The kernel refused {text!r} in {path}: {error.strerror}") from error
