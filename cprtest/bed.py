# SPDX-License-Identifier: GPL-2.0-or-later
"""The test bed: the guests, QEMUs and networks of one test, and their end.

CprTest gives every test one; benchmarks and tools use it without Avocado.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cprtest import guest as guest_image
from cprtest import images, needs, plugging
from cprtest.beside import Beside
from cprtest.errors import CprError
from cprtest.exec_transfer import ExecTransfer
from cprtest.faults.fault import Fault
from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.host.runs import Run
from cprtest.limits import emulated
from cprtest.listening_transfer import ListeningTransfer
from cprtest.live_transfer import LiveTransfer, RebootTransfer
from cprtest.machine import boards, state
from cprtest.machine.devices import Device, Disk, Nic, ToolsDisk, Vga
from cprtest.machine.execed import Execed
from cprtest.machine.features import Features, features
from cprtest.machine.plugged import Assigned, Iommufd, Vsock
from cprtest.machine.process import Machine
from cprtest.machine.spec import GuestSpec, Image
from cprtest.observe.observer import Observer
from cprtest.outcome import Outcome
from cprtest.provision import installed
from cprtest.provision.installed import Qemu
from cprtest.transfer import TargetPlan, Transfer
from cprtest.workloads.history import PAUSE, note

_T = TypeVar("_T")

_HISTORY = "history.log"
"""What workloads report; kept with the evidence at the end. Until then it is on a local file system: several
processes append to it, and over 9p, as in the lab, a reader saw zeros for lines (2 of some 20 runs)."""

_LONGEST_PAUSE_MS = 2_000_000  # the most that QEMU takes

MUTANT = "QEMU_CPR_FAULT"  # switches a fault of the mutants build on

TRANSFERS: dict[str, type[Transfer]] = {
    "cpr-transfer": Transfer,
    "cpr-exec": ExecTransfer,  # the source's process becomes the new QEMU
    "cpr-reboot": RebootTransfer,
    "live": LiveTransfer,
}
"""The ways to hand a guest over; the last two are for comparison."""


class TestBed:
    """Everything that one test makes, ended by `close` whatever happened before.

    directory: where evidence is kept. workdir: where disks are made.
    """

    __test__ = False  # pytest, this is no test

    def __init__(self, qemu: Qemu, target_qemu: Qemu, directory: Path, workdir: Path) -> None:
        self.qemu = qemu
        self._targets = [target_qemu]
        self.machines: list[Machine] = []
        self.transfers: list[Transfer] = []
        self.outcomes: list[Outcome] = []
        self.observers: list[Observer] = []
        self._directory = directory
        self._workdir = workdir
        self._cleanups = contextlib.ExitStack()
        self._run = Run.start()
        self._assigned = self._cleanups.enter_context(contextlib.ExitStack())
        self._scratch = self._run.scratch()
        self._network: Network | None = None

    def close(self) -> None:
        """End every QEMU, then networks, devices and directories, whatever of it fails. Safe to call twice.

        Raises CprError when something was left that should have ended by itself: it is gone then.
        """
        with contextlib.ExitStack() as ending:  # from the last line to the first
            ending.callback(self._end_run)
            ending.callback(self._cleanups.close)
            ending.callback(self._keep_history)
            for machine in self.machines:
                ending.callback(machine.kill)

    def _keep_history(self) -> None:
        if (self._scratch / _HISTORY).exists():
            shutil.copy(self._scratch / _HISTORY, self._directory / _HISTORY)

    def _end_run(self) -> None:
        if left := self._run.close():
            raise CprError(f"The test left something behind. {' '.join(left)}")

    def end_guests(self) -> None:
        """End every QEMU and give back their passthrough devices: the next guest may want the same."""
        for machine in self.machines:
            machine.kill()
        self._assigned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def target_qemu(self) -> Qemu:
        """What the next transfer's target will be."""
        return self._targets[min(len(self.transfers), len(self._targets) - 1)]

    @property
    def preserves_taps(self) -> bool:
        """Whether a tap's descriptors travel: every QEMU that is going to have the guest can do it."""
        return all(qemu.has("tap-cpr") for qemu in self.abilities)

    @property
    def abilities(self) -> list[Features]:
        """Of every QEMU that is going to have the guest."""
        return [features(qemu.binary) for qemu in (self.qemu, *self._targets)]

    def chain(self, qemu: Qemu, *targets: Qemu) -> None:
        """Boot guests on `qemu` and hand them over to each of `targets` in turn; before `boot`."""
        self.qemu, self._targets = qemu, list(targets)

    @property
    def network(self) -> Network:
        """The test's own network namespace, made when it is first needed."""
        if self._network is None:
            self._network = self._cleanups.enter_context(Network())
        return self._network

    def intact(self) -> None:
        """Every observer stood by to the end. Raises CprError if not: then no verdict counts."""
        for observer in self.observers:
            observer.intact()

    def observe(self, *observers: Observer) -> None:
        """Let `observers` see all that follows; to be called before the guest is booted."""
        for observer in observers:
            self.observers.append(observer)
            self._cleanups.callback(observer.close)

    def hold(self, context: AbstractContextManager[_T]) -> _T:
        """Enter a context that lasts until every QEMU has ended."""
        return self._cleanups.enter_context(context)

    def boot(
        self,
        *,
        net: Nic | Sequence[Nic] | None = None,
        disk: Disk | Sequence[Disk] | None = None,
        tools: bool = False,
        vga: bool = False,
        vsock: bool = False,
        passthrough: Sequence[str | Assigned] = (),
        iommufd: bool = False,
        memory_mib: int = 256,
        vcpus: int = 1,
        accel: str | None = None,
        memory: str = "memfd",
        machine: str = "q35",
        kernel: str = installed.SUITE,
        sandbox: bool = False,
    ) -> Guest:
        """Start a guest and return it running.

        net, disk: the guest's NICs and disks; several of a kind need an `index` each.
        tools: fio and tcpdump are commands in the guest, from a disk of their own.
        passthrough: host devices (cprtest.host.vfio), each plugged into the running guest; a role or address
        means Assigned(that); iommufd: by that, instead of a VFIO container.
        memory_mib: MiB. accel: kvm or tcg; the best that works here by default. machine, memory: as in
        GuestSpec, but the newest version that every QEMU of the test knows, and shm for a file in /dev/shm.
        kernel: the Debian suite whose kernel the guest runs.
        sandbox: QEMU is confined as libvirt confines it (GuestSpec).
        """
        nics = [net] if isinstance(net, Nic) else net or []
        disks = [disk] if isinstance(disk, Disk) else disk or []
        devices: tuple[Device, ...] = (
            *(nic.preserved(self.preserves_taps) for nic in nics),
            *disks,
            *([ToolsDisk(installed.guest_image().tools)] if tools else []),
            *([Vga()] if vga else []),
            *([Iommufd()] if iommufd else []),
        )
        accel = accel or self._best_accel()
        machine = boards.shared(machine, self.abilities)
        if memory == "shm":
            memory = str(self._run.scratch(Path("/dev/shm")) / "memory")
        assigned = [Assigned(word) if isinstance(word, str) else word for word in passthrough]
        spec = GuestSpec(
            _image(kernel),
            accel,
            memory_mib,
            vcpus,
            devices,
            memory,
            machine,
            sandbox=sandbox,
            ports=plugging.ports(assigned),
        )
        before = len(self.machines)
        saved = state.ensure(
            spec.shape(self.qemu.binary), lambda: self._boot_cold(replace(spec, memory="memfd"))
        )
        del self.machines[before:]  # one that was saved has ended
        started = self._start(self.qemu, spec, self._directory, "source", extra=["-incoming", "defer"])
        started.ready()
        state.restore(started, saved)
        guest = Guest(started)
        if tools:
            guest.run("use-tools")
        for device in plugging.bound(assigned, self._assigned, iommufd=iommufd):
            guest.plug(device)
        if vsock:
            # A guest's CID is the host's to give, and must be unique on it.
            guest.plug(Vsock(len(assigned), cid=0x10000 + os.getpid()))
        for observer in self.observers:
            observer.booted(guest)
        return guest

    def transfer(
        self,
        guest: Guest,
        *,
        mode: str = "cpr-transfer",
        keep_source: bool = False,
        target_boots: bool = True,
        fault: Fault | None = None,
    ) -> Outcome:
        """Hand `guest` over to a new QEMU and judge how it ended. `fault` strikes on the way.

        mode: a key of TRANSFERS. When the target has the guest the source is ended, as management software
        would do, unless `keep_source`. `guest` follows the survivor. target_boots: as `boots` in GuestSpec.
        """
        number = len(self.transfers) + 1
        directory = self._directory if number == 1 else self._directory / f"transfer-{number}"
        source = guest.machine
        source.qmp.actor = "source"
        scratch = self._scratch / str(number)
        target_qemu = self.target_qemu

        def start_target(plan: TargetPlan) -> Machine:
            return self._start(
                target_qemu,
                plan.spec,
                directory,
                "target",
                extra=plan.extra,
                pass_fds=plan.fds,
                prefix=plan.prefix,
            )

        def exec_target(plan: TargetPlan) -> Machine:
            target = Execed(
                target_qemu.binary,
                self._on_host(plan.spec),
                directory,
                source=source,
                scratch=scratch,
                extra=plan.extra,
            )
            self.machines.append(target)
            return target

        start = exec_target if mode == "cpr-exec" else start_target
        spec = guest.spec if target_boots else replace(guest.spec, boots=False)
        kind = TRANSFERS[mode]
        if kind is Transfer and not features(target_qemu.binary).has("10.1"):
            kind = ListeningTransfer
        transfer = kind(source, start, spec, directory, scratch, observers=self.observers)
        if self._network is not None:
            transfer.open_socket = self._network.open_socket
        self.transfers.append(transfer)
        note(source.history, f"transfer {number} begins")
        try:
            outcome = transfer.run(fault)
        except CprError:
            if (seen := transfer.so_far()) is not None:
                self.outcomes.append(seen)
            raise
        if pause := outcome.timeline.pause:
            note(source.history, PAUSE, pause)
        note(source.history, f"transfer {number} ends")
        self.outcomes.append(outcome)
        if outcome.survivor == "target":
            guest.follow(outcome.target)
            if not keep_source:
                source.quit()
        else:
            outcome.target.kill()
        return outcome

    def transferring(self, guest: Guest, **how: Any) -> Beside:
        """`transfer` with the same arguments, beside the body of a `with` block; see Beside."""
        beside = Beside(lambda: self.transfer(guest, **how))
        self._cleanups.callback(beside.join)
        return beside

    def reload(self, guest: Guest) -> None:
        """Save the running guest to a file, end its QEMU, load it in a new one: what one does without cpr.

        No pause is too long: state that a device gives only while it is stopped may be large, and QEMU
        would wait for ever for one that it thinks is short enough.
        """
        guest.machine.qmp.command("migrate-set-parameters", downtime_limit=_LONGEST_PAUSE_MS)
        file = self._scratch / f"saved-{len(self.machines)}"
        state.save(guest.machine, file)
        guest.machine.quit()
        machine = self._start(
            self.target_qemu,
            guest.spec,
            self._directory / "reload",
            "target",
            extra=["-incoming", "defer"],
            observers=(),
        )
        machine.ready()
        state.load(machine, file)
        machine.wait_run_state("running", seconds=20)
        guest.follow(machine)

    def disk(self, *, local: bool = False, **disk: Any) -> Disk:
        """A fresh disk in the work directory; arguments as in images.made.

        local: on a local file system, where a raw image can have holes made. A lab's work directory is the
        host's, by 9p, which makes none.
        """
        return images.made(self.qemu.binary, self._scratch if local else self._workdir, **disk)

    def contents(self, disk: Disk, snapshot: str | None = None) -> Path:
        """What the guest sees of the disk, or what it saw at a snapshot; arguments as in images.contents."""
        return images.contents(self.qemu.binary, disk, snapshot)

    def snapshots(self, disk: Disk) -> list[str]:
        """The names of the snapshots inside the disk's image; QEMU must have ended."""
        return images.snapshots(self.qemu.binary, disk)

    def check_image(self, disk: Disk) -> None:
        """The disk's image is consistent (`qemu-img check`); QEMU must have ended. Raises CprError."""
        images.check(self.qemu.binary, disk)

    def _boot_cold(self, spec: GuestSpec) -> Machine:
        """Boot a guest from its kernel, to be saved, without any fault; it answers on its console."""
        machine = self._start(Qemu(self.qemu.binary), spec, self._directory / "boot", "source", observers=())
        machine.ready()
        Guest(machine).run("true", seconds=40)
        return machine

    def _start(
        self,
        qemu: Qemu,
        spec: GuestSpec,
        directory: Path,
        actor: str,
        *,
        extra: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        observers: Sequence[Observer] | None = None,
    ) -> Machine:
        spec = self._on_host(spec)
        seeing = self.observers if observers is None else observers
        prefixes = [observer.prefix(actor) for observer in seeing]
        machine = Machine(
            qemu.binary,
            spec,
            directory,
            actor=actor,
            extra=extra,
            pass_fds=[*spec.descriptors, *pass_fds, *(fd for _, fds in prefixes for fd in fds)],
            prefix=[*(word for words, _ in prefixes for word in words), *prefix],
            popen=self._network.namespace.popen if self._network else subprocess.Popen,
            environment={MUTANT: qemu.mutant} if qemu.mutant else {},
            history=None if directory.name == "boot" else self._scratch / _HISTORY,
        )
        self.machines.append(machine)
        for observer in seeing:
            observer.started(machine)
        return machine

    def _on_host(self, spec: GuestSpec) -> GuestSpec:
        """The guest with its NICs' other ends, for a QEMU that is going to be started."""
        made = (d.on_host(self.network) if isinstance(d, Nic) else d for d in spec.devices)
        return replace(spec, devices=tuple(made))

    def _best_accel(self) -> str:
        return "tcg" if needs.unmet(["kvm"], self.qemu.binary) else "kvm"


def _image(suite: str) -> Image:
    kernel, image = installed.kernel(suite), installed.guest_image(suite)
    ident = f"{image.ident}-{kernel.release}"
    arguments = guest_image.kernel_args(emulated=emulated())
    return Image(kernel.image, image.initrd, arguments, ident)
