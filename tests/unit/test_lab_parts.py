# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lab is made of: its command line, devices, script and images. Nothing is booted."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cprtest import paths
from cprtest.errors import UsageError
from cprtest.lab import LabError, cli, command, devices, images, kernel, launch
from cprtest.lab.session import BOOT_LIMIT, FIRST_BOOT_LIMIT, NotStarted

PARTS = command.Parts(
    qemu=Path("/q/bin/qemu-system-x86_64"),
    image=Path("/k/boot/vmlinuz-1"),
    vmlinux=Path("/k/boot/vmlinux"),
    run=Path("/cache/with,comma"),
    accel="tcg",
    cpus=2,
    memory_mib=6144,
    writable=[Path("/a,b"), Path("/c")],
    ports={"control": 7},
)


def test_tcg_runs_vcpus_in_parallel_and_kvm_is_left_to_virtme_ng() -> None:
    tcg = command.virtme_run(PARTS)
    assert "tcg,thread=multi" in tcg
    assert "max,-erms,-fsrm" in tcg
    assert "--disable-kvm" in tcg
    kvm = command.virtme_run(command.Parts(**{**PARTS.__dict__, "accel": "kvm"}))
    assert "--disable-kvm" not in kvm
    assert "-accel" not in kvm


def test_qemu_dies_with_its_parents() -> None:
    argv = command.virtme_run(PARTS)
    assert argv[:4] == ["setpriv", "--pdeathsig", "KILL", "--"]
    assert "exit-with-parent=on" in argv


def test_commas_in_paths_are_doubled() -> None:
    options = " ".join(command.qemu_options(PARTS))
    assert "path=/a,,b,security_model=none" in options
    assert "path=/cache/with,,comma/console.log" in options


def test_only_the_root_is_shared_read_only() -> None:
    shares = [word for word in command.qemu_options(PARTS) if word.startswith("local,id=")]
    assert [share.endswith(",readonly=on") for share in shares] == [True, False, False]


def test_each_device_has_a_port_of_its_own_and_each_cable_two_ends() -> None:
    chosen = devices.assignable([128], 5)
    options = devices.qemu_options(chosen, [(10, 11), (12, 13), (14, 15)])
    ports = [word for word in options if word.startswith("pcie-root-port")]
    assert len(ports) == len(set(ports)) == len(chosen)
    buses = [word.partition("bus=")[2].partition(",")[0] for word in options if "bus=port" in word]
    assert sorted(buses) == sorted(f"port{devices.FIRST_SLOT + n}" for n in range(len(chosen)))
    ends = [word.rpartition("=")[2] for word in options if word.startswith("dgram,")]
    assert ends == ["10", "11", "12", "13", "14", "15"]
    macs = [word.partition("mac=")[2][:17] for word in options if "mac=" in word]
    assert len(macs) == len(set(macs)) == 6
    assert any("size=128M" in word for word in options)


def test_table_has_what_the_inside_reads() -> None:
    lines = devices.table(devices.assignable([64], 5)).splitlines()
    assert lines[0].split() == ["virtio-net", "10", "wire0", "18", "0"]
    assert lines[1].split() == ["igb-vf", "11", "wire1", "19", "2"]
    assert lines[2].split() == ["nvme", "12", "-", "1a", "0"]


def test_further_sizes_are_further_devices() -> None:
    chosen = devices.assignable([64, 1, 4096], 5)
    assert [device.role for device in chosen[3:]] == ["ivshmem", "e1000e", "ivshmem-1", "ivshmem-4096"]
    assert devices.table(chosen).splitlines()[-1].split() == ["ivshmem-4096", "16", "-", "1e", "0"]
    assert cli._sizes("64M,1M,4G") == (64, 1, 4096)
    with pytest.raises(UsageError, match="room for 4 ivshmem devices, not 5"):
        devices.assignable([1] * 5, 5)


def test_arguments_and_environment_survive_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPRTEST_RUN", "host-run")
    monkeypatch.setenv("ODD", 'a\'b "c" $HOME\n')
    arguments = ["a b", "it's", "", "$HOME", "new\nline", "x=y"]
    show = "import json,os,sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
    script = launch._script(launch.Command(("python3", "-c", show, *arguments), tmp_path))
    done = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    seen, environment, directory = json.loads(done.stdout)
    assert seen == arguments
    assert environment["ODD"] == os.environ["ODD"]
    assert environment["CPRTEST_LANE"] == "lab"
    assert "CPRTEST_RUN" not in environment
    assert directory == str(tmp_path)


def test_directories_inside_others_are_not_shared_twice(tmp_path: Path) -> None:
    inner = tmp_path / "results"
    inner.mkdir()
    assert launch._outermost([inner, tmp_path, inner]) == [tmp_path]


def test_too_little_memory_is_said_before_anything_starts() -> None:
    with pytest.raises(LabError, match=r"needs 99999999 MiB of memory and \d+ MiB are available"):
        launch._check_memory(99_999_999)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--"], "say which command to run"),
        (["run", "--writable", "/nowhere", "--", "true"], "/nowhere is not a directory"),
        (
            ["run", "--monitor", "/nowhere/qmp", "--", "true"],
            "/nowhere/qmp: the lab's QEMU cannot listen there",
        ),
        (["run", "--monitor", f"/{'x' * 108}", "--", "true"], "cannot listen there: AF_UNIX path too long"),
        (["run", "--monitor", "/etc/hostname", "--", "true"], "cannot listen there: Address already in use"),
    ],
)
def test_wrong_use_is_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(("text", "mebibytes"), [("6G", 6144), ("512M", 512), ("2g", 2048)])
def test_sizes(text: str, mebibytes: int) -> None:
    assert cli._mebibytes(text) == mebibytes


def test_library_is_that_of_the_interpreter_of_the_venv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "base/lib/python3.12"
    library.mkdir(parents=True)
    (library / "os.py").touch()
    (tmp_path / "base/bin").mkdir()
    (tmp_path / "base/bin/python3.12").touch()
    (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path}/base/bin\nversion = 3.12.7\n")
    monkeypatch.setattr(paths, "VENV", tmp_path)
    assert images._library() == library


def test_images_follow_what_they_are_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("mkfs.erofs", path="/usr/bin:/usr/sbin:/sbin") is None:
        pytest.skip("erofs-utils is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = tmp_path / "lib"
    content.mkdir()
    (content / "file").write_text("x")
    first = images._image("test", content, [content])
    assert images._image("test", content, [content]) == first
    old = time.time() - (images.KEEP_DAYS + 1) * 86400
    os.utime(first, (old, old))
    (content / "more").touch()
    second = images._image("test", content, [content])
    assert second != first
    assert second.stat().st_size > 0
    assert not first.exists()


def test_kernel_is_unpacked_from_where_the_boot_protocol_says() -> None:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    elf = b"\x7fELF" + bytes(1000)
    packed = subprocess.run(["zstd", "-cq"], input=elf, capture_output=True, check=True).stdout
    payload = packed + struct.pack("<I", len(elf))
    image = bytearray(5 * 512) + bytes(64) + payload
    image[0x1F1] = 4
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    assert kernel.unpacked(bytes(image)) == elf
    image[5 * 512 + 64] = 0  # some other compression
    assert kernel.unpacked(bytes(image)) is None


def test_a_lab_can_have_some_of_the_devices() -> None:
    everything = devices.assignable([64], 9)
    assert devices.chosen(everything, ()) == everything
    some = devices.chosen(everything, ("nvme", "virtio-net"))
    assert [device.role for device in some] == ["virtio-net", "nvme"]
    assert "-device nvme" in " ".join(devices.qemu_options(some, [(3, 4)]))
    with pytest.raises(UsageError, match="has no device gpu; it can have virtio-net, igb-vf"):
        devices.chosen(everything, ("gpu",))


@pytest.mark.parametrize("hangs", [1, 2])
def test_a_lab_that_did_not_take_its_command_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hangs: int
) -> None:
    limits: list[float] = []

    class Lab:
        """Hangs so many times, then takes the command."""

        def wait(self, _out: object, _err: object, limit: float) -> int:
            limits.append(limit)
            if len(limits) <= hangs:
                raise NotStarted("The lab hung in its firmware.")
            return 3

    @contextlib.contextmanager
    def started(*_: object) -> Iterator[Lab]:
        yield Lab()

    monkeypatch.setattr(launch, "started", started)
    what = launch.Command(("true",))
    if hangs == 1:
        assert launch.run(what, launch.Settings()) == 3
    else:
        with pytest.raises(NotStarted, match="firmware"):
            launch.run(what, launch.Settings())
    assert limits == [FIRST_BOOT_LIMIT, BOOT_LIMIT]
    assert capsys.readouterr().err == "The lab hung in its firmware. Starting it once more.\n"
