# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own QEMUs: how they are called, where they are, and what is said when they are not."""

from pathlib import Path

import pytest

from cprtest import needs
from cprtest.errors import UsageError
from cprtest.provision import installed, mirrors, qemu_source
from cprtest.provision.qemu_source import Packaged


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_each_is_a_flavour_with_a_directory_of_its_own() -> None:
    found = [qemu_source.flavour_of(name) for name in qemu_source.packaged()]
    assert len({flavour.directory for flavour in found}) == len(found) >= 2
    for flavour in found:
        assert isinstance(flavour, Packaged) and len(flavour.sha256) == 64 and flavour.version


def test_the_directory_follows_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = qemu_source.flavour_of("debian-10.0").directory
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert qemu_source.flavour_of("debian-10.0").directory.name != here.name


def test_an_unknown_flavour_is_told_with_all_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"'debian-9.0': it is one of stock, .*debian-10.0"):
        qemu_source.flavour_of("debian-9.0")


def test_what_is_missing_is_a_need_with_advice() -> None:
    (said,) = needs.unmet(["build:debian-10.0"])
    assert said.endswith("run `scripts/build-qemu debian-10.0`.")
    (said,) = needs.unmet([f"kernel:{installed.NEWEST}"])
    assert said.endswith("run `scripts/setup --full`.")


def test_a_qemu_of_the_users_looks_for_its_firmware_itself(tmp_path: Path) -> None:
    binary = tmp_path / "bin" / "qemu-system-x86_64"
    assert installed.firmware(binary) == []


def test_backports_stand_on_their_release() -> None:
    text = mirrors.sources(mirrors.Mirrors("https://mirror.test/debian/", "https://s.test/"), "x-backports")
    assert "Suites: x x-backports\n" in text and "Suites: x-security\n" in text
