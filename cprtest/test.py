# SPDX-License-Identifier: GPL-2.0-or-later
"""CprTest: what functional tests are written in. A test bed, and the verdict on known defects."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import avocado
from avocado.core.exceptions import TestCancel

from cprtest import needs
from cprtest.bed import TestBed
from cprtest.beside import Beside
from cprtest.blame import blame
from cprtest.defects import Defect, known_defects
from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.limits import needed, patience
from cprtest.machine.devices import Disk, Tap
from cprtest.observe.observer import Observer
from cprtest.outcome import Outcome
from cprtest.paths import lane
from cprtest.provision import installed
from cprtest.provision.installed import Qemu
from cprtest.workloads.kernel_log import KernelLog
from cprtest.workloads.workload import Workload

# Found out here, where the process that all tests are forked from imports this, and inherited by them:
# how slow this machine is, and what the files that QEMU and guest image are known by are made of.
patience()
with contextlib.suppress(CprError):
    installed.under_test()
    installed.guest_image()

NEEDED = "patience"
"""The file in a test's directory that says how much patience (cprtest.limits) it needed."""


class CprTest(avocado.Test):  # type: ignore[misc]
    """Base of all functional tests.

    A test boots a guest, transfers it, and asserts. Everything it makes is ended in tearDown, whatever
    happened before. Avocado parameters: qemu_bin, target_qemu_bin, as the options of scripts/run (default:
    the reference build).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = self._testMethodName
        self.promise = f"{type(self).__name__}.{name}"
        setattr(self, name, self._judged(getattr(self, name)))
        self._bed: TestBed | None = None

    def setUp(self) -> None:
        qemu, target = self.qemus()
        required = self.requirements()
        reasons = needs.unmet(required, qemu.binary)
        if reasons:
            self.cancel(" ".join(reasons))
        self._bed = TestBed(qemu, target, Path(self.logdir), Path(self.workdir))
        if lane() == "lab" or "tracer" in required:
            from cprtest.observe.tracefs import Tracefs  # noqa: PLC0415  (not everywhere)

            self.observe(Tracefs())

    def tearDown(self) -> None:
        if self._bed is not None:
            (Path(self.logdir) / NEEDED).write_text(f"{needed():.3f}\n")
            self._bed.close()

    def qemus(self) -> tuple[Qemu, Qemu]:
        """The QEMU under test, and that of the target."""
        qemu = installed.under_test(self.params.get("qemu_bin"))
        other = self.params.get("target_qemu_bin")
        return qemu, installed.under_test(other) if other else qemu

    def requirements(self) -> list[str]:
        """What this test needs (cprtest.needs): it cancels where something is missing."""
        return [f"guest:{self.architecture}", *needs.declared(type(self), self._testMethodName)]

    @property
    def architecture(self) -> str:
        """The guest's."""
        return installed.ARCHITECTURE

    @property
    def bed(self) -> TestBed:
        """The machines and networks of this test."""
        assert self._bed is not None, "there is no test bed before setUp"
        return self._bed

    @property
    def network(self) -> Network:
        """The test's own network namespace."""
        return self.bed.network

    def observe(self, *observers: Observer) -> None:
        """Let observers see the hand-over (cprtest/observe); before `boot`."""
        self.bed.observe(*observers)

    def boot(self, **guest: Any) -> Guest:
        """Start a guest and return it running; arguments as in TestBed.boot."""
        return self.bed.boot(**guest)

    def disk(self, **disk: Any) -> Disk:
        """A fresh disk for the guest; arguments as in TestBed.disk."""
        return self.bed.disk(**disk)

    def transfer(self, guest: Guest, **how: Any) -> Outcome:
        """Hand `guest` over to a new QEMU and judge how it ended; arguments as in TestBed.transfer."""
        outcome = self.bed.transfer(guest, **how)
        self.log.info("%s: %s", outcome.status, outcome.describe())
        return outcome

    def transferring(self, guest: Guest, **how: Any) -> Beside:
        """A transfer beside the body of a `with` block, for tests that look at it half way."""
        return self.bed.transferring(guest, **how)

    def cross(self, guest: Guest, *loads: Workload, transfers: int = 1) -> None:
        """Hand the guest over, with progress of every workload before and after; then judge them all."""
        kernel = KernelLog(guest)
        for load in loads:
            load.trouble = kernel.said
        for _ in range(transfers):
            for load in loads:
                load.wait_progress()
            self.transfer(guest).assert_completed()
        for load in loads:
            load.wait_progress()
        self.finish(kernel, *loads)

    def finish(self, kernel: KernelLog, *loads: Workload) -> None:
        """End every workload; judge them, and the guest's kernel by its log."""
        for load in loads:
            load.check_artefacts()
            load.stop()
            load.check()
        kernel.check()

    def _judged(self, method: Callable[[], None]) -> Callable[[], None]:
        """The test method, with known defects told from failures (assets/known-defects.yaml)."""

        def judged() -> None:
            defects = [d for d in self.defects() if self.promise not in d.cases]
            try:
                method()
            except TestCancel:
                raise
            except (Exception, AssertionError) as failure:
                self.bed.intact()
                text = self.describe(failure)
                defect = next((d for d in defects if d.explains(text)), None)
                if defect is None:
                    self._blame(failure)
                    raise
                self.warn(defect, text)
            else:
                self.bed.intact()
                if stale := self.no_longer(defects):
                    self.fail(stale[0])

        return judged

    def defects(self) -> list[Defect]:
        """The known defects that this test may meet: those of the source, and of the target."""
        qemus = self.bed.abilities
        return [
            d for d in known_defects() if any(d.concerns(self.promise, q.version, q.names) for q in qemus)
        ]

    def no_longer(self, defects: Sequence[Defect]) -> list[str]:
        """A sentence for each of `defects` whose entry is wrong, as it did not occur in a QEMU of set-up's.

        Another QEMU of that version may have a fix, and of two QEMUs one may do without the other: then it is
        so noted, and that is all.
        """
        gone = [d.id for d in defects if self.promise not in d.intermittent]
        binary = self.bed.qemu.binary
        if binary == self.bed.target_qemu.binary and installed.is_provided(binary):
            return [f"{name} no longer reproduces, remove it" for name in gone]
        for name in gone:
            self.log.info("%s does not occur in this QEMU: it seems to have a fix", name)
        return []

    def _blame(self, failure: BaseException) -> None:
        """Add the phase to blame to a failure that names none."""
        if "[phase " not in str(failure):
            found = blame(self.bed.outcomes, getattr(failure, "phase", "resume"))
            # In front: Avocado cuts the end off.
            failure.args = (f"{found} {failure}" if found else str(failure),)

    def describe(self, failure: BaseException) -> str:
        """Everything that a defect's signature may look for."""
        ends = [f"{m.actor} {m.gone() or m.last_words()}" for m in self.bed.machines]
        return "\n".join([f"{type(failure).__name__}: {failure}", *ends])

    def warn(self, defect: Defect, text: str) -> None:
        """End the test as WARN: it failed with a known defect's signature."""
        if self.bed.outcomes:
            self.bed.outcomes[-1].known_defect = defect.id
            self.bed.outcomes[-1].write()
        self.log.info(text)
        # Avocado ends a test that logged a warning as WARN.
        self.log.warning("known defect %s: %s", defect.id, defect.summary)


__all__ = ["CprTest", "Tap"]
