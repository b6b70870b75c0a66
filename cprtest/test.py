# SPDX-License-Identifier: GPL-2.0-or-later
"""CprTest: what functional tests are written in. boot(), transfer(), evidence, clean-up."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import avocado
from avocado.core.exceptions import TestCancel

from cprtest import guest as guest_image
from cprtest import needs
from cprtest.defects import Defect, known_defects
from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.host.runs import Run
from cprtest.machine import state
from cprtest.machine.devices import HOST_ADDRESS, Disk, Passthrough, Plugged, Tap, Vsock
from cprtest.machine.features import Features, features
from cprtest.machine.process import Machine
from cprtest.machine.spec import GuestSpec, Image
from cprtest.outcome import Outcome
from cprtest.provision import installed
from cprtest.transfer import Transfer


class CprTest(avocado.Test):  # type: ignore[misc]
    """Base of all functional tests.

    A test boots a guest, transfers it, and asserts. Everything it makes is ended in tearDown, whatever
    happened before. Avocado parameters: qemu_bin, target_qemu_bin (default: the stock build).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = self._testMethodName
        self._promise = f"{type(self).__name__}.{name}"
        setattr(self, name, self._judged(getattr(self, name)))
        self._machines: list[Machine] = []
        self._outcomes: list[Outcome] = []
        self._cleanups = contextlib.ExitStack()
        self._network: Network | None = None

    def setUp(self) -> None:
        self.qemu = self._binary("qemu_bin")
        self.target_qemu = self._binary("target_qemu_bin", self.qemu)
        self._run = self._cleanups.enter_context(Run.start())
        self._scratch = self._run.scratch()
        wanted = needs.declared(type(self), self._testMethodName)
        reasons = needs.unmet(wanted, self.qemu)
        if reasons:
            self.cancel("; ".join(reasons))

    def tearDown(self) -> None:
        for machine in self._machines:
            machine.kill()
        self._cleanups.close()

    def _binary(self, parameter: str, default: Path | None = None) -> Path:
        value = self.params.get(parameter)
        return Path(value) if value else default or installed.qemu()

    @property
    def network(self) -> Network:
        """The test's own network namespace, made when it is first needed."""
        if self._network is None:
            self._network = self._cleanups.enter_context(Network())
        return self._network

    def boot(
        self,
        *,
        net: Tap | None = None,
        disk: Disk | None = None,
        vsock: bool = False,
        passthrough: Sequence[str] = (),
        memory_mib: int = 256,
        vcpus: int = 1,
        accel: str | None = None,
    ) -> Guest:
        """Start a guest and return it running.

        passthrough: roles of host devices (cprtest.host.vfio), each plugged into the running guest.
        memory_mib: MiB. accel: kvm or tcg; the best that works here by default.
        """
        devices = tuple(device for device in (net, disk) if device is not None)
        if net is not None:
            self.network.tap(
                net.ifname, queues=net.netdev_queues, address=f"{HOST_ADDRESS.format(net.index)}/24"
            )
        spec = GuestSpec(self._image(), accel or self._best_accel(), memory_mib, vcpus, devices)
        shape = spec.shape(self.qemu)
        saved = state.ensure(shape, lambda directory: self._boot_cold(spec, directory))
        machine = self._machine(self.qemu, spec, Path(self.logdir), 0, "source", ["-incoming", "defer"], [])
        machine.ready()
        state.restore(machine, saved)
        guest = Guest(machine, spec)
        plugged: list[Plugged] = [self._assign(role, slot) for slot, role in enumerate(passthrough)]
        if vsock:
            # A guest's CID is the host's to give, and must be unique on it.
            plugged.append(Vsock(len(plugged), cid=0x10000 + os.getpid()))
        for device in plugged:
            guest.plug(device)
        return guest

    def transfer(self, guest: Guest, *, keep_source: bool = False) -> Outcome:
        """Hand `guest` over to a new QEMU and judge how it ended.

        When the target has the guest the source is ended, as management software would do, unless
        `keep_source`. `guest` follows the survivor.
        """
        number = len(self._outcomes) + 1
        directory = Path(self.logdir) if number == 1 else Path(self.logdir) / f"transfer-{number}"
        source = guest.machine
        source.qmp.actor = "source"

        def start_target(extra: list[str], fds: list[int]) -> Machine:
            return self._machine(
                self.target_qemu, guest.spec, directory, source.generation + 1, "target", extra, fds
            )

        outcome = Transfer(source, start_target, directory, self._scratch).run()
        self._outcomes.append(outcome)
        self.log.info("transfer %d: %s: %s", number, outcome.status, outcome.describe())
        if outcome.survivor == "target":
            guest.follow(outcome.target)
            if not keep_source:
                source.quit()
        return outcome

    def disk(self, size_mib: int = 64, format: str = "raw") -> Disk:
        """A fresh disk for the guest, an image file in the test's work directory. size_mib: MiB."""
        image = Path(self.workdir) / f"disk.{format}"
        self._qemu_img("create", "-q", "-f", format, str(image), f"{size_mib}M")
        return Disk(image, format)

    def check_image(self, format: str = "qcow2") -> None:
        """The disk's image is consistent (`qemu-img check`); QEMU must have ended. Raises CprError."""
        self._qemu_img("check", "-q", "-f", format, str(Path(self.workdir) / f"disk.{format}"))

    def _qemu_img(self, *arguments: str) -> None:
        """qemu-img of the same build as QEMU, or else of the stock build."""
        beside = self.qemu.with_name("qemu-img")
        program = beside if beside.exists() else installed.qemu().with_name("qemu-img")
        done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CprError(f"`qemu-img {' '.join(arguments)}` failed: {done.stdout}{done.stderr}".strip())

    def _boot_cold(self, spec: GuestSpec, directory: Path) -> Machine:
        """Boot a guest from its kernel, to be saved; it answers on its console."""
        machine = self._machine(self.qemu, spec, directory, 0, "source", [], [])
        machine.ready()
        Guest(machine, spec).run("true", seconds=40)
        return machine

    def _machine(
        self,
        qemu: Path,
        spec: GuestSpec,
        directory: Path,
        generation: int,
        actor: str,
        extra: Sequence[str],
        pass_fds: Sequence[int],
    ) -> Machine:
        machine = Machine(
            qemu,
            spec,
            directory,
            generation=generation,
            actor=actor,
            extra=extra,
            pass_fds=pass_fds,
            popen=self._network.namespace.popen if self._network else subprocess.Popen,
        )
        self._machines.append(machine)
        return machine

    def _image(self) -> Image:
        kernel, image = installed.kernel(), installed.guest_image()
        ident = f"{image.ident}-{kernel.release}"
        return Image(kernel.image, image.initrd, guest_image.kernel_args(), ident)

    def _best_accel(self) -> str:
        return "tcg" if needs.unmet(["kvm"], self.qemu) else "kvm"

    def _assign(self, role: str, slot: int) -> Passthrough:
        from cprtest.host import vfio  # noqa: PLC0415  (only tests with passthrough devices need it)

        device = self._cleanups.enter_context(vfio.assigned(role))
        return Passthrough(role, device.address, slot)

    def _judged(self, method: Callable[[], None]) -> Callable[[], None]:
        """The test method, with known defects told from failures (assets/known-defects.yaml)."""

        def judged() -> None:
            defects = [d for d in known_defects() if d.concerns(self._promise, *self._build())]
            try:
                method()
            except TestCancel:
                raise
            except (Exception, AssertionError) as failure:
                text = self._describe(failure)
                defect = next((d for d in defects if d.explains(text)), None)
                if defect is None:
                    raise
                self._warn(defect, text)
            else:
                if defects:
                    self.fail(f"{defects[0].id} no longer reproduces, remove it")

        return judged

    def _build(self) -> tuple[tuple[int, ...], frozenset[str]]:
        build: Features = features(self.qemu)
        return build.version, build.names

    def _describe(self, failure: BaseException) -> str:
        """Everything that a defect's signature may look for."""
        ends = [f"{m.actor} {m.gone() or m.last_words()}" for m in self._machines]
        return "\n".join([f"{type(failure).__name__}: {failure}", *ends])

    def _warn(self, defect: Defect, text: str) -> None:
        if self._outcomes:
            self._outcomes[-1].known_defect = defect.id
            self._outcomes[-1].write()
        self.log.info(text)
        # Avocado ends a test that logged a warning as WARN.
        self.log.warning("known defect %s: %s", defect.id, defect.summary)


__all__ = ["CprTest", "Disk", "Tap", "Vsock"]
