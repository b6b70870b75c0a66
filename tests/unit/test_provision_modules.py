# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules: Debian's kbuild works from the cache, whatever C library the host has."""

import subprocess
from pathlib import Path

import pytest

from cprtest.errors import NotInstalled
from cprtest.paths import ASSETS
from cprtest.provision import installed, modules
from cprtest.provision.installed import Kernel

RELEASE = "6.12.1+deb13-amd64"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Kernel(RELEASE, tmp_path / "vmlinuz", tmp_path / "modules", "6.12.1-1")
    monkeypatch.setattr(installed, "kernel", lambda: found)
    return found


def test_unpacked_tree_works_where_it_will_be(tmp_path: Path) -> None:
    scratch, final = tmp_path / "scratch", tmp_path / "final"
    source = scratch / f"usr/src/linux-headers-{RELEASE}"
    kbuild = scratch / "usr/lib/linux-kbuild-6.12.1+deb13/scripts"
    loader = scratch / "lib64/ld-linux-x86-64.so.2"
    for directory in (source, kbuild, loader.parent):
        directory.mkdir(parents=True)
    (source / "Makefile").write_text("include /usr/src/linux-headers-6.12.1+deb13-common/Makefile\n")
    (source / "vmlinux").touch()
    (kbuild / "modpost").write_bytes(b"\x7fELF...")
    (kbuild / "depmod.sh").write_text("#!/bin/sh\n")
    loader.write_text('#!/bin/sh\necho "$@"\n')
    loader.chmod(0o755)

    modules._settle(scratch, final, RELEASE)
    scratch.rename(final)

    source = final / f"usr/src/linux-headers-{RELEASE}"
    assert (
        source / "Makefile"
    ).read_text() == f"include {final}/usr/src/linux-headers-6.12.1+deb13-common/Makefile\n"
    assert not (source / "vmlinux").exists()
    program = final / "usr/lib/linux-kbuild-6.12.1+deb13/scripts/modpost"
    said = subprocess.run([program, "-m", "a b"], capture_output=True, text=True, check=True).stdout
    assert said == f"--argv0 {program} --library-path {final}/usr/lib/x86_64-linux-gnu {program}.elf -m a b\n"
    assert (program.parent / "depmod.sh").read_text() == "#!/bin/sh\n"


@pytest.mark.usefixtures("kernel")
def test_module_that_is_not_built_is_named() -> None:
    with pytest.raises(NotInstalled, match="vfio-bulk is not built yet"):
        installed.module("vfio-bulk")


def test_another_kernel_means_another_module(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = installed.module_path("vfio-bulk")
    assert first.name == "vfio-bulk.ko"
    newer = Kernel("6.12.2+deb13-amd64", kernel.image, kernel.modules, "6.12.2-1")
    monkeypatch.setattr(installed, "kernel", lambda: newer)
    assert installed.module_path("vfio-bulk") != first


def test_each_module_is_a_directory_with_a_kbuild() -> None:
    assert all((ASSETS / name / "Kbuild").exists() for name in installed.MODULES)
