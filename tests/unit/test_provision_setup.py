# SPDX-License-Identifier: GPL-2.0-or-later
"""Set-up's decisions: what is missing, what a stamp covers, what a person is told."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from cprtest.errors import CprError, NotInstalled, UsageError
from cprtest.paths import ASSETS
from cprtest.provision import files, installed, packages, processes, qemu_source, setup, venv


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qemu-cpr"


def test_package_list_gives_a_reason_or_a_heading_for_each() -> None:
    names = packages.wanted(packages.LIST.read_text())
    assert "busybox-static" in names
    assert all(" " not in name and "#" not in name for name in names)
    assert len(set(names)) == len(names)


def test_removed_packages_are_not_installed() -> None:
    text = "gcc installed 4:12.2.0-3\nmake config-files 4.3\nkmod not-installed\n"
    assert packages.parse_installed(text) == {"gcc": "4:12.2.0-3"}


def test_missing_packages_without_root_name_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda _: {"make": "4.3"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)  # no sudo
    with pytest.raises(CprError) as error:
        packages.ensure()
    assert "apt-get install --no-install-recommends python3-venv" in str(error.value)
    assert " make " not in str(error.value)


def test_a_qemu_build_is_named_for_what_it_is_made_of(tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    shutil.copytree(ASSETS / "qemu", assets)
    stock = qemu_source.build_of("stock", assets)
    assert stock.directory.name.startswith("stock-10.2.2-")
    assert stock == qemu_source.build_of("stock", assets)
    with (assets / "source.toml").open("a") as file:
        file.write("# recipe 2\n")
    assert qemu_source.build_of("stock", assets).directory != stock.directory


def test_flavours_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="one of stock, lab, reference, mutants"):
        qemu_source.build_of("nosuch")


def test_what_is_not_there_names_the_command_that_helps(cache: Path) -> None:  # noqa: ARG001
    with pytest.raises(NotInstalled, match="scripts/setup"):
        installed.kernel()
    with pytest.raises(NotInstalled, match="scripts/setup"):
        installed.guest_image()
    with pytest.raises(NotInstalled, match="scripts/build-qemu lab"):
        installed.qemu()


def test_a_kernel_whose_directory_was_removed_is_not_there(cache: Path) -> None:
    record = {"release": "6.12", "version": "6.12-1"}
    files.write_record(installed.kernel_record(), record)
    with pytest.raises(NotInstalled):
        installed.kernel()
    (cache / "kernel" / "6.12").mkdir(parents=True)
    assert installed.kernel().modules == cache / "kernel/6.12/modules/lib/modules/6.12"


def test_a_full_disk_is_told_from_a_failed_build(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(CprError, match="disk is full"):
        processes.run_logged(["sh", "-c", "echo x: No space left on device; exit 1"], log, "compiling")
    with pytest.raises(CprError, match=f"compiling failed with exit status 3.*{log}"):
        processes.run_logged(["sh", "-c", "exit 3"], log, "compiling")


def test_the_first_failure_ends_what_runs_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_stopping", threading.Event())
    started = time.monotonic()

    def fails() -> None:
        raise CprError("no network")

    with pytest.raises(CprError, match="no network"):
        setup.side_by_side(lambda: processes.run_logged(["sleep", "60"], tmp_path / "log", "sleep"), fails)
    assert time.monotonic() - started < 30


def test_a_venv_that_is_another_ones_is_not_emptied(
    cache: Path,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    link = tmp_path / ".venv"
    link.symlink_to(theirs)
    monkeypatch.setattr(venv, "VENV", link)
    with pytest.raises(CprError, match=f"is a link to {theirs}.*Remove the link"):
        venv.ensure()
    assert (theirs / "file").exists()
