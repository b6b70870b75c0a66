# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/doctor on this host, before set-up too: it finishes, and says something about everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cprtest import doctor
from cprtest.doctor import Check
from cprtest.host import hostfile
from cprtest.paths import CHECKOUT


def run(
    tmp_path: Path, *words: str, python: tuple[str, ...] = (sys.executable,)
) -> subprocess.CompletedProcess[str]:
    """The doctor with an empty cache: nothing is set up, and no kernel is booted."""
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    environ.pop(hostfile.VARIABLE, None)
    argv = [*python, "-m", "cprtest.doctor", *words]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


def test_json_keeps_its_shape(tmp_path: Path) -> None:
    done = run(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"lane", "checks", "lanes", "qemu"}
    names = [check["name"] for check in answer["checks"]]
    assert len(names) == len(set(names)) and {"kvm", "vhost-net", "tun", "vfio", "memory", "cache"} <= set(
        names
    )
    for check in answer["checks"]:
        assert set(check) == {"name", "ok", "found", "missing"}
        assert (check["ok"] is True) == (check["missing"] is None), check
    assert [way["name"] for way in answer["lanes"]] == ["here", "lab"]
    assert answer["qemu"] is None


def test_table_without_rich(tmp_path: Path) -> None:
    done = run(tmp_path, python=(sys.executable, "-S"))
    assert done.returncode == 0, done.stderr
    assert "vhost-net" in done.stdout and "Lanes:" in done.stdout


def test_wrong_qemu_closes_every_lane(tmp_path: Path) -> None:
    done = run(tmp_path, "--qemu", "/bin/true")
    assert done.returncode == 1
    assert done.stdout.count("does not work: /bin/true does not behave like QEMU") == 2


def test_wrong_host_file_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(hostfile.VARIABLE, str(tmp_path / "missing.json"))
    assert doctor.main([]) == 2
    assert "cannot be read" in capsys.readouterr().err


def checks(memory: int, qemu: bool | None = True, kvm: bool = False) -> list[Check]:
    return [
        Check("qemu", qemu, "", "Give another." if qemu is False else None),
        Check("kernel", True, ""),
        Check("guest image", True, ""),
        Check("kvm", kvm, ""),
        Check("memory", True, f"{memory} MiB available"),
    ]


def test_lanes_follow_from_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPRTEST_LANE", raising=False)
    assert [way.ok for way in doctor.judge(checks(8192))] == [True, True]
    assert [way.ok for way in doctor.judge(checks(4096))] == [True, False]
    assert [way.ok for way in doctor.judge(checks(512))] == [False, False]
    assert {way.because for way in doctor.judge(checks(8192, qemu=False))} == {"Give another."}
    assert "once scripts/setup" in doctor.judge(checks(8192, qemu=None))[0].because
    assert "with KVM" in doctor.judge(checks(8192, kvm=True))[0].because
    monkeypatch.setenv("CPRTEST_LANE", "lab")
    assert [way.ok for way in doctor.judge(checks(8192))] == [True, False]
