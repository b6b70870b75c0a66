# SPDX-License-Identifier: GPL-2.0-or-later
"""What the observer makes of the lines that the kernel's tracer writes (6.12)."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cprtest.errors import CprError
from cprtest.host import tracing
from cprtest.machine.devices import Tap
from cprtest.machine.plugged import Assigned, Passthrough
from cprtest.observe import open_files
from cprtest.observe.ioctls import COMMANDS
from cprtest.observe.tracefs import Tracefs

NET, TAP, VFIO = 10 << 20 | 238, 10 << 20 | 200, 10 << 20 | 196
SOURCE, TARGET = 195, 204


class Kernel:
    """Stands for an instance: gives out the lines that a test wrote into it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.clock = 0
        self.lost = 0
        self.switched: list[str] = []

    def line(self, tid: int, event: str, fields: str, comm: str = "qemu-system-x86") -> None:
        self.clock += 1
        self.lines.append(f" {comm:>15}-{tid:<7} [000] .....   28.{self.clock:06}: {event}: {fields}")

    def ioctl(
        self, tid: int, name: str, file: int, fd: int, *, ret: int = 0, rdev: int = NET, b: int = 0
    ) -> None:
        place = f"(security_file_ioctl+0x4/0x140) file={file:#x} rdev={rdev} cmd={COMMANDS[name]}"
        self.line(tid, "ioctl_enter", f"{place} a=1 b={b}")
        self.line(tid, "ioctl_exit", f"(x <- __x64_sys_ioctl) cmd={COMMANDS[name]} fd={fd} ret={ret}")

    def read(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def missed(self) -> int:
        return self.lost

    def switch_on(self, filters: Any) -> None:
        self.switched += filters

    def switch_off(self, events: Any) -> None:
        self.switched = [event for event in self.switched if event not in events]

    def close(self) -> None: ...


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()
    monkeypatch.setattr(tracing, "unusable", lambda: None)
    monkeypatch.setattr(tracing, "Instance", lambda *_: made)
    monkeypatch.setattr("cprtest.observe.tracefs.Run.start", lambda: None)
    monkeypatch.setattr(open_files, "device_numbers", lambda: {NET: "vhost-net", TAP: "tap", VFIO: "vfio"})
    yield made


def machine(pid: int, actor: str, *devices: Any) -> Any:
    return SimpleNamespace(pid=pid, actor=actor, spec=SimpleNamespace(devices=devices))


def hand_over(*devices: Any, before: Any, during: Any) -> list[dict[str, Any]]:
    """Events of a transfer as dicts; `before` and `during` write the kernel's lines."""
    seen = Tracefs()
    source, target = machine(SOURCE, "source", *devices), machine(TARGET, "target", *devices)
    seen.started(source)
    passthrough = [d for d in devices if isinstance(d, Passthrough)]
    seen.booted(SimpleNamespace(machine=source, spec=source.spec, passthrough=passthrough))  # type: ignore[arg-type]
    before()
    seen.started(target)
    seen.begin(source, target)
    during()
    return [{"actor": e.actor, "name": e.name, "ok": e.ok, "t": e.t, **e.data} for e in seen.end()]


def test_a_file_is_the_same_in_both_processes(kernel: Kernel) -> None:
    def before() -> None:
        for queue in (0, 1):
            kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xFFFF8881_0000 + queue, 10 + queue)

    def during() -> None:
        kernel.ioctl(SOURCE, "VHOST_RESET_OWNER", 0xFFFF8881_0001, 11)
        kernel.ioctl(TARGET, "VHOST_SET_OWNER", 0xFFFF8881_0000, 21, ret=-16)
        kernel.ioctl(TARGET, "VHOST_SET_OWNER", 0xFFFF8881_0001, 20)

    seen = hand_over(Tap(queues=2, cpr=True), before=before, during=during)
    assert [(e["actor"], e["name"], e["device"], e["queue"], e["file"]) for e in seen] == [
        ("source", "OWNED", "net0", 0, 1),
        ("source", "OWNED", "net0", 1, 2),
        ("source", "VHOST_RESET_OWNER", "net0", 1, 2),
        ("target", "VHOST_SET_OWNER", "net0", 0, 1),
        ("target", "VHOST_SET_OWNER", "net0", 1, 2),
    ]
    refused = seen[3]
    assert (refused["ok"], refused["errno"], refused["fd"]) == (False, "EBUSY", 21)
    assert refused["end"] - refused["t"] == 1000


def test_swapped_files_are_seen(kernel: Kernel) -> None:
    def before() -> None:
        for queue in (0, 1):
            kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xA0 + queue, 10 + queue)

    def during() -> None:
        kernel.ioctl(TARGET, "VHOST_SET_OWNER", 0xA1, 20)

    seen = hand_over(Tap(queues=2, cpr=True), before=before, during=during)
    assert seen[-1]["taken_for"] == "net0 queue 0"


def test_what_is_opened_anew_keeps_its_name(kernel: Kernel) -> None:
    def during() -> None:
        kernel.line(SOURCE, "fput", "(__fput+0x4/0x2a0) file=0xa0 rdev=" + str(NET))
        kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xB0, 10)
        kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xA0, 30)  # its address is used again, for another

    seen = hand_over(
        Tap(cpr=True),
        before=lambda: kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xA0, 10),
        during=during,
    )
    assert [(e["name"], e.get("device"), e["file"]) for e in seen[1:]] == [
        ("CLOSE", "net0", 1),
        ("VHOST_SET_OWNER", "net0", 2),
        ("VHOST_SET_OWNER", None, 3),
    ]


def test_threads_belong_to_their_process(kernel: Kernel) -> None:
    def during() -> None:
        kernel.line(TARGET, "task_newtask", "pid=220 comm=vhost-204 clone_flags=10d00 oom_score_adj=0")
        kernel.line(TARGET, "task_newtask", "pid=300 comm=sh clone_flags=4111 oom_score_adj=0")
        kernel.line(220, "sched_process_exit", "comm=vhost-204 pid=220 prio=120 ", comm="vhost-204")
        kernel.line(300, "scm_send", "(__scm_send+0x4/0x3d0)")
        kernel.ioctl(999, "VHOST_SET_OWNER", 0xF0, 9)  # of a process that is not ours

    seen = hand_over(before=lambda: None, during=during)
    assert [(e["name"], e["worker"]) for e in seen] == [
        ("vhost-worker-start", 220),
        ("vhost-worker-end", 220),
    ]


def test_packets_are_counted_and_those_of_the_wrong_side_shown(kernel: Kernel) -> None:
    def during() -> None:
        for _ in range(3):
            kernel.line(SOURCE, "tap_recvmsg", "(vhost_net <- tun_recvmsg) ret=98")
        kernel.line(SOURCE, "scm_send", "(__scm_send+0x4/0x3d0)")
        kernel.line(SOURCE, "tap_sendmsg", "(tun_sendmsg+0x4/0x90)")
        kernel.line(TARGET, "tap_read", "(vfs_read <- tun_chr_read_iter) ret=60")

    seen = hand_over(before=lambda: None, during=during)
    packets = [(e["actor"], e["name"], e.get("packets")) for e in seen if e["name"].startswith("TAP")]
    assert packets == [("source", "TAP_WRITE", None), ("source", "TAP_READ", 3), ("target", "TAP_READ", 1)]


@pytest.mark.parametrize("devices", [(), (Tap(),)])
def test_packets_are_recorded_only_where_the_target_has_a_nic(kernel: Kernel, devices: Any) -> None:
    during: list[bool] = []
    hand_over(*devices, before=lambda: None, during=lambda: during.append("tap_recvmsg" in kernel.switched))
    assert during == [bool(devices)]
    assert "tap_recvmsg" not in kernel.switched and "ioctl_enter" in kernel.switched


def test_one_number_two_commands_of_vfio(kernel: Kernel) -> None:
    def before() -> None:
        kernel.line(SOURCE, "ioctl_name", f'(s+0x4/0x1) cmd={0x3B6A} text="0000:01:00.0"')
        kernel.ioctl(SOURCE, "VFIO_GROUP_GET_DEVICE_FD", 0xC0, 30, ret=31, rdev=5)
        kernel.ioctl(SOURCE, "VFIO_IOMMU_MAP_DMA", 0xD0, 29, rdev=VFIO)

    def during() -> None:
        kernel.ioctl(SOURCE, "VFIO_IOMMU_MAP_DMA", 0xE0, 31, rdev=0)
        kernel.ioctl(SOURCE, "VFIO_IOMMU_UNMAP_DMA", 0xD0, 29, rdev=VFIO, b=6)
        kernel.line(TARGET, "reset", "(__pci_reset_function_locked+0x4/0x90) bus=1 devfn=0")

    device = Passthrough(0, Assigned("nvme"), "0000:01:00.0")
    seen = hand_over(device, before=before, during=during)
    assert [(e["name"], e["device"]) for e in seen] == [
        ("OWNED", "vfio"),
        ("VFIO_DEVICE_PCI_HOT_RESET", "vfio-nvme"),
        ("VFIO_IOMMU_UNMAP_DMA", "vfio"),
        ("PCI_RESET", "vfio-nvme"),
    ]
    assert seen[2]["flags"] == 6


def test_lost_evidence_is_an_error(kernel: Kernel) -> None:
    kernel.lost = 1
    with pytest.raises(CprError, match="missed 1"):
        hand_over(before=lambda: None, during=lambda: None)


def test_a_line_that_is_not_understood_is_an_error(kernel: Kernel) -> None:
    with pytest.raises(CprError, match="not understood"):
        hand_over(before=lambda: kernel.lines.append("odd"), during=lambda: None)


def test_one_process_is_the_source_until_it_calls_execve(kernel: Kernel) -> None:
    seen = Tracefs()
    source = machine(SOURCE, "source", Tap(cpr=True))
    became = f"filename=/q/qemu-system-x86_64 pid={SOURCE} old_pid={SOURCE}"
    seen.started(source)
    seen.booted(SimpleNamespace(machine=source, spec=source.spec, passthrough=[]))  # type: ignore[arg-type]
    kernel.line(SOURCE, "sched_process_exec", became)  # its own start
    kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xA0, 10)
    seen.begin(source, machine(SOURCE, "target", Tap(cpr=True)))
    kernel.line(SOURCE, "sched_process_exec", became)
    kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xA0, 10, ret=-16)
    kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xB0, 10)  # opened anew, under the old descriptor
    found = [(e.actor, e.name, e.ok, e.data["device"]) for e in seen.end()]
    assert found == [
        ("source", "OWNED", None, "net0"),
        ("target", "VHOST_SET_OWNER", False, "net0"),
        ("target", "VHOST_SET_OWNER", True, "net0"),
    ]


def test_an_address_may_have_been_that_of_a_file_of_no_interest(kernel: Kernel) -> None:
    def before() -> None:
        kernel.line(SOURCE, "scm_recv", "(security_file_receive+0x4/0x140) file=0xa0 rdev=0")
        kernel.ioctl(SOURCE, "VHOST_SET_OWNER", 0xA0, 10)

    seen = hand_over(Tap(cpr=True), before=before, during=lambda: None)
    assert [(e["name"], e.get("device")) for e in seen] == [("OWNED", "net0")]
