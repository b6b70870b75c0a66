# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel itself saw of a hand-over: ioctls and their results, descriptors, workers, taps, resets.

Needs root. Every probe is a function that all paths lead through, so that no QEMU has to be asked:

    security_file_ioctl     enter of each ioctl, with the open file; __x64_sys_ioctl's return has the result
    __scm_send              a message with control data is sent; security_file_receive: a descriptor came
    __fput                  the last descriptor of a file is gone
    tun_*                   a packet goes into or comes out of a tap, by a vhost worker or by QEMU
    vfio_pci_config_rw, pci_reset_bus ...    what is done to a passthrough device

Ioctls are filtered by command inside the kernel. Packets are only recorded while a transfer is under way.
"""

from __future__ import annotations

import errno
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cprtest.errors import CprError
from cprtest.host import tracing
from cprtest.host.runs import Run
from cprtest.machine.devices import Nic
from cprtest.observe.ioctls import COMMANDS, NAMES, name_of
from cprtest.observe.observer import Observer
from cprtest.observe.open_files import OpenFile, OpenFiles, device_numbers
from cprtest.timeline.event import Event
from cprtest.timeline.ownership import UNMAP_VADDR

if TYPE_CHECKING:
    from cprtest.guest.guest import Guest
    from cprtest.machine.process import Machine

_PROBES = (
    # a, b: the first two words that the argument points to; 0 where it is no pointer.
    "p:{group}/ioctl_enter security_file_ioctl file=file:x64 rdev=file->f_inode->i_rdev cmd=cmd:u32"
    " a=+u0(arg):u32 b=+u4(arg):u32",
    "p:{group}/ioctl_name security_file_ioctl cmd=cmd:u32 text=+u0(arg):ustring",
    # A thread is inside for as long as KVM_RUN takes: room for many.
    "r512:{group}/ioctl_exit __x64_sys_ioctl cmd=regs->si:u32 fd=regs->di:s32 ret=$retval:s64",
    "p:{group}/scm_send __scm_send",
    "p:{group}/scm_recv security_file_receive file=file:x64 rdev=file->f_inode->i_rdev",
    "p:{group}/fput __fput file=file:x64 rdev=file->f_inode->i_rdev",
)
_MODULES = (
    "p:{group}/tap_write tun_chr_write_iter",
    "p:{group}/tap_sendmsg tun_sendmsg",
    "r64:{group}/tap_read tun_chr_read_iter ret=$retval:s64",
    "r64:{group}/tap_recvmsg tun_recvmsg ret=$retval:s32",
    "p:{group}/config vfio_pci_config_rw bus=vdev->pdev->bus->number devfn=vdev->pdev->devfn"
    " count=count:u64 offset=+0(ppos):x64 iswrite=iswrite:u8",
    "p:{group}/reset __pci_reset_function_locked bus=dev->bus->number devfn=dev->devfn",
    "p:{group}/bus_reset pci_reset_bus bus=pdev->bus->number devfn=pdev->devfn",
)
# Reading that found nothing is no packet.
_PACKETS = {"tap_write": "", "tap_sendmsg": "", "tap_read": "ret > 0", "tap_recvmsg": "ret > 0"}
_SHOWN_PACKETS = 20
_CLONE_THREAD = 0x10000  # linux/sched.h
_ERR = 1000  # ns: the tracer writes microseconds
_LINE = re.compile(r"^ *(.*)-(\d+) +\[\d+\] \S+ +(\d+)\.(\d{6}): (\w+): (.*)$")
_FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')


@dataclass(frozen=True)
class _Line:
    """One record of the tracer: time in ns, command and id of the thread, event, its fields as text."""

    t: int
    comm: str
    tid: int
    name: str
    fields: dict[str, str]

    def number(self, field: str, base: int = 0) -> int:
        return int(self.fields[field], base)


class Tracefs(Observer):
    """The kernel's own record, as events with observer "tracefs". Raises CprError where it cannot be had."""

    def __init__(self) -> None:
        if reason := tracing.unusable():
            raise CprError(f"The kernel cannot be traced. {reason}")
        self._instance = tracing.Instance(Run.start(), _PROBES, _MODULES)
        self._instance.switch_on(_filters())
        self._files = OpenFiles()
        self._threads: dict[int, int] = {}  # thread -> process
        self._guests: list[Guest] = []
        self._addresses: dict[str, str] = {}  # of a passthrough device, without domain -> its id
        self._inside: dict[int, tuple[_Line, OpenFile]] = {}  # thread -> the ioctl it is in
        self._texts: dict[int, str] = {}  # thread -> the name that its ioctl was given
        self._owners: dict[int, tuple[int, OpenFile]] = {}  # number of the file -> process
        self._roles: dict[int, str] = {}
        self._execed: Machine | None = None  # what the source becomes by execve
        self._found: list[Event] = []
        self._packets: list[Event] = []
        self._counting = False  # packets are being recorded

    def started(self, machine: Machine) -> None:
        self._threads[machine.pid] = machine.pid
        if machine.actor == "target":
            self._files.process(machine.pid, machine.spec.devices)

    def booted(self, guest: Guest) -> None:
        self._guests.append(guest)

    def begin(self, source: Machine, target: Machine) -> None:
        for guest in [guest for guest in self._guests if guest.machine is source]:
            # Only now, since devices are plugged into a running guest.
            self._guests.remove(guest)
            self._files.process(source.pid, guest.spec.devices)
            self._addresses |= {d.address.partition(":")[2]: d.id for d in guest.passthrough}
        # One process may be both: then it is the source until it calls execve.
        self._roles = {target.pid: "target", source.pid: "source"}
        self._execed = None
        self._take()
        self._execed = target if target.pid == source.pid else None
        self._packets.clear()
        self._found = [event for event in self._found if event.actor == "target"]  # the rest was before
        now = time.monotonic_ns()
        for pid, file in self._owners.values():
            if pid in self._roles:
                self._found.append(Event(now, self._roles[pid], "tracefs", "OWNED", data=file.about()))
        # Each switch has the kernel patch itself: a tenth of a second for two of them in an emulated lab.
        if any(isinstance(device, Nic) for device in target.spec.devices):  # plugged ones, too
            self._instance.switch_on(_PACKETS)
            self._counting = True

    def end(self) -> list[Event]:
        if self._counting:
            self._instance.switch_off(list(_PACKETS))
            self._counting = False
        self._take()
        if missed := self._instance.missed():
            raise CprError(f"The kernel's tracer missed {missed} passages of its probes.")
        found, self._found = [*self._found, *self._chosen_packets()], []
        return found

    def close(self) -> None:
        self._instance.close()

    def _take(self) -> None:
        """Read what is new, and take it in."""
        for text in self._instance.read():
            match = _LINE.match(text)
            if match is None:
                raise CprError(f"The kernel's tracer wrote a line that is not understood: {text!r}")
            comm, tid, seconds, us, name, rest = match.groups()
            line = _Line(
                int(seconds) * 10**9 + int(us) * 1000, comm, int(tid), name, dict(_FIELD.findall(rest))
            )
            _HANDLERS[name](self, line)

    def _see(self, line: _Line, name: str, ok: bool | None = None, **data: Any) -> None:
        actor = self._roles.get(self._threads.get(line.tid, 0))
        if actor is not None:
            data["tid"] = line.tid
            self._found.append(Event(line.t, actor, "tracefs", name, err=_ERR, ok=ok, data=data))

    def _entered(self, line: _Line) -> None:
        if line.tid in self._threads:
            self._inside[line.tid] = (line, self._files.find(line.fields["file"], line.number("rdev")))

    def _was_named(self, line: _Line) -> None:
        self._texts[line.tid] = line.fields["text"].strip('"')

    def _returned(self, line: _Line) -> None:
        enter, _ = self._inside.pop(line.tid, (None, None))
        if enter is None:
            return
        pid, fd, result = self._threads[line.tid], line.number("fd"), line.number("ret")
        file, about = self._files.used(enter.fields["file"], enter.number("rdev"), pid, fd)
        name = name_of(enter.number("cmd"), container=file.kind == "vfio")
        if name == "VFIO_GROUP_GET_DEVICE_FD":
            address = self._texts.pop(line.tid, "").partition(":")[2]
            self._files.opened(pid, result, self._addresses.get(address, address))
        data: dict[str, Any] = {"end": line.t, "fd": fd, **about}
        if result < 0:
            data["errno"] = errno.errorcode.get(-result, str(result))
        if name == "VHOST_NET_SET_BACKEND":
            data["ring"] = enter.number("a")
            data["backend"] = enter.number("b") - (1 << 32 if enter.number("b") >> 31 else 0)
        if name in ("VFIO_IOMMU_MAP_DMA", "VFIO_IOMMU_UNMAP_DMA"):
            data["flags"] = enter.number("b")
        if result >= 0:
            self._change_owner(name, data, pid, file)
        self._see(enter, name, result >= 0, **data)

    def _change_owner(self, name: str, data: dict[str, Any], pid: int, file: OpenFile) -> None:
        match name:
            case "VHOST_SET_OWNER" | "VFIO_IOMMU_MAP_DMA":
                self._owners[file.number] = (pid, file)
            case "VHOST_RESET_OWNER":
                self._owners.pop(file.number, None)
            case "VFIO_IOMMU_UNMAP_DMA" if data["flags"] & UNMAP_VADDR:
                self._owners.pop(file.number, None)

    def _replaced(self, line: _Line) -> None:
        if self._execed is not None and line.tid == self._execed.pid:
            self._roles[line.tid] = "target"
            self._files.process(line.tid, self._execed.spec.devices)

    def _sent(self, line: _Line) -> None:
        self._see(line, "SCM_RIGHTS_SEND")

    def _received(self, line: _Line) -> None:
        self._see(
            line, "SCM_RIGHTS_RECV", **self._files.find(line.fields["file"], line.number("rdev")).about()
        )

    def _closed(self, line: _Line) -> None:
        file = self._files.closed(line.fields["file"])
        if file is None or not file.kind:
            return
        self._owners.pop(file.number, None)
        # Whoever does it: the kernel may leave it to a thread of its own.
        actor = self._roles.get(self._threads.get(line.tid, 0), "host")
        self._found.append(Event(line.t, actor, "tracefs", "CLOSE", err=_ERR, data=file.about()))

    def _forked(self, line: _Line) -> None:
        if line.tid in self._threads and line.number("clone_flags", 16) & _CLONE_THREAD:
            self._threads[line.number("pid")] = self._threads[line.tid]
            if line.fields["comm"].startswith("vhost-"):
                self._see(line, "vhost-worker-start", worker=line.number("pid"))

    def _ended(self, line: _Line) -> None:
        self._see(line, "vhost-worker-end", worker=line.tid)

    def _packet(self, line: _Line) -> None:
        actor = self._roles.get(self._threads.get(line.tid, 0))
        if actor is not None:
            name = "TAP_WRITE" if line.name in ("tap_write", "tap_sendmsg") else "TAP_READ"
            data = {"by": line.comm, "tid": line.tid}
            self._packets.append(Event(line.t, actor, "tracefs", name, err=_ERR, data=data))

    def _chosen_packets(self) -> list[Event]:
        """The last of the source's and the first of the target's, in each direction, and what should not be.

        The source's after the first descriptor has left are kept: they are evidence.
        """
        left = min((e.t for e in self._found if e.name == "SCM_RIGHTS_SEND"), default=0)
        chosen = [e for e in self._packets if e.actor == "source" and left and e.t > left][:_SHOWN_PACKETS]
        for name in ("TAP_READ", "TAP_WRITE"):
            before = [e for e in self._packets if (e.actor, e.name) == ("source", name) and e.t <= left]
            after = [e for e in self._packets if (e.actor, e.name) == ("target", name)]
            for events, which in ((before, -1), (after, 0)):
                if events:
                    events[which].data["packets"] = len(events)
                    chosen.append(events[which])
        return chosen

    def _configured(self, line: _Line) -> None:
        if line.number("iswrite"):
            offset = line.number("offset") & 0xFFFF
            self._see(line, "VFIO_CONFIG_WRITE", device=self._device(line), offset=offset)

    def _reset(self, line: _Line) -> None:
        self._see(
            line, "PCI_BUS_RESET" if line.name == "bus_reset" else "PCI_RESET", device=self._device(line)
        )

    def _device(self, line: _Line) -> str:
        function = line.number("devfn")
        address = f"{line.number('bus'):02x}:{function >> 3:02x}.{function & 7}"
        return self._addresses.get(address, address)


_HANDLERS = {
    "ioctl_enter": Tracefs._entered,
    "ioctl_name": Tracefs._was_named,
    "ioctl_exit": Tracefs._returned,
    "scm_send": Tracefs._sent,
    "scm_recv": Tracefs._received,
    "fput": Tracefs._closed,
    "task_newtask": Tracefs._forked,
    "sched_process_exec": Tracefs._replaced,
    "sched_process_exit": Tracefs._ended,
    "config": Tracefs._configured,
    "reset": Tracefs._reset,
    "bus_reset": Tracefs._reset,
    **dict.fromkeys(_PACKETS, Tracefs._packet),
}


def _filters() -> dict[str, str]:
    """The events that are on all the time, and which of them are of interest."""
    commands = " || ".join(f"cmd == {number}" for number in NAMES)
    devices = " || ".join(f"rdev == {number}" for number in device_numbers())
    return {
        "ioctl_enter": commands,
        "ioctl_name": f"cmd == {COMMANDS['VFIO_GROUP_GET_DEVICE_FD']}",
        "ioctl_exit": commands,
        "scm_send": "",
        "scm_recv": "",
        "fput": devices,
        "config": "iswrite == 1",
        "reset": "",
        "bus_reset": "",
        "task/task_newtask": "",
        "sched/sched_process_exec": "",
        "sched/sched_process_exit": 'comm ~ "vhost-*"',
    }
