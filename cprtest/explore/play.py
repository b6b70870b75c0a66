# SPDX-License-Identifier: GPL-2.0-or-later
"""Plays a plan on a test bed of its own, and judges every transfer and, at the end, all of the load."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cprtest.bed import TestBed
from cprtest.campaign import Campaign, Check
from cprtest.explore.plan import KINDS, Lengths, Plan, Step
from cprtest.faults import cpr_channel, main_channel
from cprtest.guest.guest import Guest
from cprtest.machine.devices import Tap
from cprtest.machine.vhost import assert_in_use
from cprtest.observe.proc import descriptors
from cprtest.provision.installed import Qemu
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo
from cprtest.workloads.cpu import CpuBurn
from cprtest.workloads.echo import EchoStream
from cprtest.workloads.journal import DiskJournal
from cprtest.workloads.memory import MemoryPattern
from cprtest.workloads.workload import Workload

PAUSE_US = 50_000
"""Loads rest so long in between: a guest on an emulated CPU has to answer its console, too."""

KEEP_MIB = 140
"""Of the guest's memory that is not under watch: all of it takes seconds a sweep."""


class Player:
    """Plays plans with `qemu`, each in a directory of its own below `directory`, and keeps account."""

    def __init__(self, qemu: Qemu, target_qemu: Qemu, directory: Path, workdir: Path) -> None:
        self._qemu, self._target_qemu = qemu, target_qemu
        self._directory, self._workdir = directory, workdir
        self._lengths: dict[tuple[str, ...], Lengths] = {}
        self.counts: Counter[str] = Counter(plans=0)
        """What was done: plans, transfers, faults, bytes, records, sweeps ..."""

    def play(self, plan: Plan) -> None:
        """Raises AssertionError naming step and phase; evidence is kept only then."""
        self.counts["plans"] += 1
        name = f"plan-{self.counts['plans']}"
        workdir, directory = self._workdir / name, self._directory / name
        workdir.mkdir(parents=True)
        directory.mkdir(parents=True)
        (directory / "plan").write_text(f"{plan}\n")
        with TestBed(self._qemu, self._target_qemu, directory, workdir) as bed:
            playing = Playing(bed, plan, directory)
            try:
                playing.play(self._lengths)
            finally:
                self.counts.update(playing.counts())
        shutil.rmtree(workdir)
        shutil.rmtree(directory)


class Playing:
    """One plan under way."""

    def __init__(self, bed: TestBed, plan: Plan, directory: Path) -> None:
        self._bed = bed
        self._plan = plan
        self._streams: list[EchoStream] = []
        self._workloads: list[Workload] = []
        self._guest: Guest | None = None
        self._disk = bed.disk() if "disk" in plan.guest else None
        # The journal wants the disk for itself.
        own = self._disk is not None and "journal" not in plan.guest
        self._campaign = Campaign(bed, self._booted, directory, disk=own, followed=False, load=self._loaded)

    def play(self, lengths: dict[tuple[str, ...], Lengths]) -> None:
        """All steps, then one transfer more, then the load is judged."""
        key = self._plan.guest
        if key not in lengths:
            lengths[key] = self._measured()
        for step in self._plan.steps:
            self._strike(step, lengths[key])
        self._strike(Step("clean"), lengths[key])
        assert self._guest is not None
        held = descriptors(self._guest.machine.pid)
        if held != self._held:
            raise AssertionError(f"the last QEMU holds {held}, the first held {self._held} {tag('handover')}")
        for workload in self._workloads:
            workload.stop()
            workload.check()
        for stream in self._streams:
            stream.stop()
        self._guest.machine.quit()
        for workload in self._workloads:
            if isinstance(workload, DiskJournal):
                workload.check_image(workload.disk.image)

    def counts(self) -> dict[str, int]:
        """What was done."""
        outcomes = self._bed.outcomes
        done = Counter(f"{load.name} operations" for load in self._workloads for _ in load.operations())
        return {
            "transfers": len(outcomes),
            "completed": sum(outcome.survivor == "target" for outcome in outcomes),
            "faults": sum(
                fault["struck"] and fault["name"] != "recorded" for o in outcomes for fault in o.faults
            ),
            "echo bytes": sum(stream.received for stream in self._streams),
            **done,
        }

    def _strike(self, step: Step, lengths: Lengths) -> None:
        case = KINDS[step.kind](step.place, lengths)
        if step.paused:
            case = replace(case, before=_pause, after=_still_paused)
        result = self._campaign.run([case])[-1]
        if result.status != "PASS":
            raise AssertionError(f"{step} ({result.name}): {result.status}: {result.message}")

    def _measured(self) -> Lengths:
        main, cpr = main_channel.Recorded(), cpr_channel.Recorded()
        for fault in (main, cpr):
            self._campaign.transfer(fault).assert_completed()
        # After the last section the target may have said yes: then nothing is rolled back.
        sections = main_channel.section_boundaries(bytes(main.relay.forward.recorded))
        return Lengths(sections[-1], cpr.relay.forward.passed)

    def _booted(self) -> Guest:
        words = self._plan.guest
        net = Tap(vhost=self._plan.net == "vhost") if self._plan.net else None
        vcpus = 2 if "2vcpus" in words else 1
        self._guest = self._bed.boot(net=net, disk=self._disk, vcpus=vcpus)
        return self._guest

    def _loaded(self, guest: Guest) -> Check:
        start: dict[str, Callable[[Guest], Any]] = {
            "journal": lambda guest: DiskJournal(guest, writers=1, pause_us=PAUSE_US),
            "memory": lambda guest: MemoryPattern(guest, pause_us=PAUSE_US, keep_mib=KEEP_MIB),
            "cpu": CpuBurn,
        }
        self._workloads = [make(guest) for word, make in start.items() if word in self._plan.guest]
        if "echo" in self._plan.guest:
            self._streams.append(echo.tcp(guest, self._bed.network))
            self._streams[-1].wait_progress()
        self._held = descriptors(guest.machine.pid)
        return lambda: self._go_on(guest)

    def _go_on(self, guest: Guest) -> None:
        for workload in self._workloads:
            workload.wait_progress()
            workload.check()
        for stream in self._streams:
            if guest.vhost_queues:
                assert_in_use(guest.machine.pid, guest.vhost_queues, stream.wait_progress)
            else:
                stream.wait_progress()


def _pause(guest: Guest) -> None:
    guest.machine.qmp.command("stop")


def _still_paused(guest: Guest) -> None:
    state = guest.machine.run_state()
    if state != "paused":
        raise AssertionError(f"the guest was paused before the transfer, and is {state} after it")
    guest.machine.qmp.command("cont")
