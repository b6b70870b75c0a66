# SPDX-License-Identifier: GPL-2.0-or-later
"""Command lines and saved states: what a guest depends on, and what it does not."""

import itertools
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cprtest.errors import CprError
from cprtest.machine import state
from cprtest.machine.boards import BOARDS
from cprtest.machine.devices import Device, Disk, Tap, ToolsDisk, queues
from cprtest.machine.nics import Macvtap, Passt, Vdpa
from cprtest.machine.plugged import Assigned, Iommufd, Passthrough, Vsock
from cprtest.machine.ports import RootPorts
from cprtest.machine.spec import GuestSpec, Image, channel, incoming

IMAGE = Image(Path("/k"), Path("/i"), "console=ttyS0", "abc")
SPEC = GuestSpec(IMAGE, "tcg")


@pytest.fixture
def qemu(tmp_path: Path) -> Path:
    path = tmp_path / "qemu"
    path.write_text("x")
    return path


def devices_of(arguments: list[str]) -> list[dict[str, object]]:
    pairs = itertools.pairwise(arguments)
    return [json.loads(value) for option, value in pairs if option == "-device"]


def test_memory_travels_by_descriptor() -> None:
    line = " ".join(SPEC.command_line())
    assert '"qom-type": "memory-backend-memfd"' in line and '"share": true' in line
    assert "aux-ram-share=on" in line and "memory-backend=ram0" in line


def test_tap_asks_for_two_queues_so_that_the_target_can_open_its_own() -> None:
    assert json.loads(Tap().backend()[1])["queues"] == 2
    assert "mq" not in Tap().frontend()
    four = Tap(queues=4)
    assert json.loads(four.backend()[1])["queues"] == 4
    assert four.frontend()["vectors"] == 10


def test_plugged_devices_are_on_the_command_line_but_not_in_the_saved_state(qemu: Path) -> None:
    nvme = Passthrough(0, Assigned("nvme"), "0000:01:00.0")
    full = replace(SPEC, devices=(Tap(), nvme, Vsock(1, cid=70000)))
    assert {"vfio-pci", "vhost-vsock-pci"} <= {str(d["driver"]) for d in devices_of(full.command_line())}
    assert [type(d) for d in full.savable.devices] == [Tap]
    assert full.shape(qemu) == replace(SPEC, devices=(Tap(),)).shape(qemu)


def test_tools_disk_is_read_only_and_part_of_the_saved_state(qemu: Path) -> None:
    tools = ToolsDisk(Path("/tools"))
    assert json.loads(tools.backend()[1])["read-only"] is True
    with_tools = replace(SPEC, devices=(tools,))
    assert with_tools.savable == with_tools
    assert with_tools.shape(qemu) != SPEC.shape(qemu)


def test_plugged_devices_sit_in_their_root_ports() -> None:
    nvme = Passthrough(2, Assigned("nvme", migration="off"), "0000:01:00.0")
    assert nvme.frontend()["bus"] == "port2"
    assert nvme.frontend()["enable-migration"] == "off"
    assert nvme.guest_path.endswith("0000:03:00.0")
    assert nvme.id == "vfio-nvme"
    assert replace(nvme, number=1).id == "vfio-nvme-1", "two of a role need two names"


def test_saved_state_depends_on_what_the_guest_sees(qemu: Path) -> None:
    known = {SPEC.shape(qemu)}
    for other in (
        replace(SPEC, memory_mib=512),
        replace(SPEC, vcpus=2),
        replace(SPEC, accel="kvm"),
        replace(SPEC, devices=(Tap(),)),
        replace(SPEC, image=replace(IMAGE, ident="def")),
    ):
        known.add(other.shape(qemu))
    assert len(known) == 6
    qemu.write_text("another build")
    assert SPEC.shape(qemu) not in known


def test_saved_state_does_not_depend_on_where_the_image_is(qemu: Path) -> None:
    shapes = {
        replace(SPEC, devices=(Disk(Path(name)),)).shape(qemu) for name in ("/a/disk.raw", "/b/disk.raw")
    }
    assert len(shapes) == 1


def test_incoming_channels() -> None:
    words = incoming([channel("cpr", {"type": "fd", "str": "7"})])
    assert words[0] == "-incoming"
    assert json.loads(words[1]) == {
        "channel-type": "cpr",
        "addr": {"transport": "socket", "type": "fd", "str": "7"},
    }


def test_saved_states_go_a_week_after_their_last_use(tmp_path: Path) -> None:
    for name, days in (("used", 6), ("old", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state").write_text("x")
        (tmp_path / f"{name}.lock").touch()
        for path in (tmp_path / name, tmp_path / f"{name}.lock"):
            os.utime(path, (0, time.time() - days * 86400))
    state.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used", "used.lock"]


def test_macvtap_is_inherited_and_not_opened(qemu: Path) -> None:
    nic = Macvtap(vhost=True, queues=2, cpr=True, fds=(7, 8))
    netdev = json.loads(nic.backend()[1])
    assert netdev["fds"] == "7:8" and netdev["cpr"] is True and "ifname" not in netdev
    assert replace(SPEC, devices=(nic, Tap(index=1))).descriptors == [7, 8]
    assert queues((nic, Tap(index=1)), vhost=True) == [("net0", 0), ("net0", 1), ("net1", 0), ("net1", 1)]
    assert queues((nic, Tap(index=1))) == [("net1", 0), ("net1", 1)]
    assert replace(SPEC, devices=(nic,)).shape(qemu) == replace(SPEC, devices=(replace(nic, fds=()),)).shape(
        qemu
    )


def test_vdpa_is_opened_by_its_node() -> None:
    netdev = json.loads(Vdpa(node=Path("/dev/vhost-vdpa-0")).backend()[1])
    assert netdev == {"type": "vhost-vdpa", "id": "net0-backend", "vhostdev": "/dev/vhost-vdpa-0"}


def test_iommufd_is_one_object_that_devices_share(qemu: Path) -> None:
    devices: tuple[Device, ...] = (
        Iommufd(),
        *(Passthrough(n, Assigned(f"r{n}"), f"0000:0{n}:00.0", iommufd=True) for n in (1, 2)),
    )
    spec = replace(SPEC, devices=devices)
    line = spec.command_line()
    objects = [json.loads(v) for o, v in itertools.pairwise(line) if o == "-object"]
    assert [o["id"] for o in objects if o["qom-type"] == "iommufd"] == ["iommufd0"]
    assert [d["iommufd"] for d in devices_of(line) if d["driver"] == "vfio-pci"] == ["iommufd0"] * 2
    assert spec.shape(qemu) == SPEC.shape(qemu)


def test_aarch64_has_a_board_of_its_own() -> None:
    spec = replace(SPEC, machine="virt", devices=(Passthrough(0, Assigned("nvme"), "0000:01:00.0"),))
    line = spec.command_line()
    machine = line[line.index("-machine") + 1]
    assert machine == "virt,memory-backend=ram0,aux-ram-share=on,gic-version=max,its=on"
    assert spec.bus == "pcie.0"
    assert {"port0", "port5"} <= {str(d.get("id")) for d in devices_of(line)}


@pytest.mark.parametrize("machine", BOARDS)
def test_only_a_board_with_root_ports_has_them(machine: str) -> None:
    ports = [
        d
        for d in devices_of(replace(SPEC, machine=machine).command_line())
        if d["driver"] == "pcie-root-port"
    ]
    assert bool(ports) == BOARDS[machine].plugs


def test_ports_reserve_what_large_bars_need() -> None:
    large = replace(SPEC, ports=RootPorts.fitting(1, 1 << 30))
    for spec in (SPEC, large):
        reserved = [d["pref64-reserve"] for d in devices_of(spec.command_line()) if "pref64-reserve" in d]
        assert set(reserved) == {spec.ports.window}
    assert large.shape(Path("/bin/sh")) != SPEC.shape(Path("/bin/sh"))


def test_more_devices_than_ports_get_ports_with_windows_above_4_gib() -> None:
    assert RootPorts.fitting(6, 64 << 20) == RootPorts()
    more = RootPorts.fitting(8, 64 << 20)
    assert more.window >= 4 << 30
    assert [option["id"] for option in more.options()] == [f"port{slot}" for slot in range(8)]


def test_passt_is_reached_through_its_forwarded_port() -> None:
    nic = Passt(index=1, socket=Path("/s"), forwards=7101)
    chardev, netdev = nic.backend()[1], json.loads(nic.backend()[3])
    assert chardev == "socket,id=net1-socket,path=/s"
    assert netdev == {"type": "vhost-user", "id": "net1-backend", "chardev": "net1-socket"}
    assert nic.reached(7007) == ("127.0.0.1", 7101) and not nic.lasting
    with pytest.raises(CprError, match="port 7007 of the guest only, not to 22"):
        nic.reached(22)
    assert Tap(index=1).reached(22) == ("10.99.1.2", 22)


def test_saved_states_that_nobody_uses_now_go_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minutes, name in ((180, "4-older"), (120, "4-old"), (5, "4-used")):
        (tmp_path / name).mkdir()
        used = time.time() - 60 * minutes
        os.utime(tmp_path / name, (used, used))
    free = [1 << 30, 20 << 30]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free.pop(0)))
    state.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4-old", "4-used"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    state.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4-used"]
