# SPDX-License-Identifier: GPL-2.0-or-later
"""Needs: declared on classes and methods, judged on this host, every reason collected."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cprtest import needs, paths
from cprtest.errors import CprError
from cprtest.host import hostfile
from cprtest.paths import CHECKOUT
from cprtest.provision import installed
from cprtest.provision.installed import Kernel


@needs.needs("root")
class Base:
    @needs.needs("tun", "memory:64")
    def test_both(self) -> None: ...


@needs.needs("netns")
class Derived(Base):
    def test_plain(self) -> None: ...


class Overridden(Base):
    @needs.needs("kvm")
    def test_both(self) -> None: ...


@pytest.fixture(autouse=True)
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hostfile.VARIABLE, raising=False)
    monkeypatch.delenv("CPRTEST_LANE", raising=False)


def test_needs_of_class_bases_and_method_add_up() -> None:
    assert needs.declared(Derived, "test_both") == ["root", "netns", "tun", "memory:64"]
    assert needs.declared(Derived, "test_plain") == ["root", "netns"]
    assert needs.declared(Base, "test_both") == ["root", "tun", "memory:64"]


def test_overridden_method_declares_anew() -> None:
    assert needs.declared(Overridden, "test_both") == ["root", "kvm"]


@pytest.mark.parametrize("name", ["nonsense", "vfio:", "memory", "kvm:x"])
def test_need_that_does_not_exist_is_told_where_it_is_declared(name: str) -> None:
    with pytest.raises(CprError, match="no need called"):
        needs.needs(name)


def test_every_reason_is_collected() -> None:
    reasons = needs.unmet(["memory:64", "memory:99999999", "vfio:nvme"])
    assert [reason.split(":")[0] for reason in reasons] == ["memory", "vfio"]
    assert "MiB are available" in reasons[0]
    assert "scripts/run --lane lab" in reasons[1]


def test_inside_the_lab_nobody_is_sent_to_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPRTEST_LANE", "lab")
    assert "--lane lab" not in needs.unmet(["vfio:nvme"])[0]


def test_device_node_is_really_looked_at(tmp_path: Path) -> None:
    check = needs._device(str(tmp_path / "vhost-net"), "Load it: modprobe vhost_net")
    reason = check("", None)
    assert reason and "is missing" in reason and "modprobe vhost_net" in reason
    (tmp_path / "vhost-net").touch()
    assert check("", None) is None


def test_role_in_the_host_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "devices.json"
    path.write_text(json.dumps({"devices": [{"role": "nvme", "address": "0000:01:00.0"}]}))
    monkeypatch.setenv(hostfile.VARIABLE, str(path))
    (reason,) = needs.unmet(["vfio:igb-vf"])
    assert "lists nvme" in reason


def test_nic_with_a_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "devices.json"
    nic = {"role": "igb-vf", "address": "0000:02:00.0"}
    monkeypatch.setenv(hostfile.VARIABLE, str(path))
    path.write_text(json.dumps({"devices": [nic]}))
    (reason,) = needs.unmet(["wire:igb-vf"])
    assert 'lists no "igb-vf" with a wire' in reason
    path.write_text(json.dumps({"devices": [{**nic, "wire": "eth7"}]}))
    assert not needs.unmet(["wire:igb-vf"])


def test_module_needs_the_kernel_that_it_is_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(release: str) -> Kernel:
        return Kernel(release, Path("/vmlinuz"), Path("/modules"), "6.12.1-1")

    monkeypatch.setattr(installed, "kernel", lambda: kernel("6.12.1+none"))
    assert "is built for kernel 6.12.1+none" in needs.unmet(["module:vfio-bulk"])[0]
    monkeypatch.setattr(installed, "kernel", lambda: kernel(os.uname().release))
    assert "run `scripts/setup --full`" in needs.unmet(["module:mtty"])[0]


def test_import_is_cheap() -> None:
    """Every test process pays for it, in a lab that is 15 to 30 times slower."""
    code = (
        "import sys; before = set(sys.modules); import cprtest.needs; print(len(set(sys.modules) - before))"
    )
    argv = [sys.executable, "-c", code]
    out = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=CHECKOUT).stdout
    assert int(out) < 60, "cprtest.needs has come to import something heavy"


def test_root_is_judged_by_the_effective_user() -> None:
    assert bool(needs.unmet(["root"])) == (os.geteuid() != 0)


def test_what_is_missing_is_said_for_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPRTEST_LANE", raising=False)
    monkeypatch.delenv(paths.LAB_FOLLOWS, raising=False)
    assert paths.or_in_lab("Load it") == "Load it, or run in the lab (scripts/run --lane lab)."
    monkeypatch.setenv(paths.LAB_FOLLOWS, "1")
    assert paths.or_in_lab("Load it") == "The lab has it; there it runs next."
    monkeypatch.setenv("CPRTEST_LANE", "lab")
    assert paths.or_in_lab("Load it") == "Load it."
