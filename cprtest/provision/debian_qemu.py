# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own binary of QEMU, with its libraries, its loader and its firmware: CACHE/qemu/FLAVOUR-HASH.

So it runs on a host whose C library is older. The program is told where its loader and its libraries are
(patchelf), and by option where its firmware is (installed.firmware). Its modules are left out.
"""

import shutil
import tempfile
from pathlib import Path

from cprtest.errors import CprError
from cprtest.guest.tree import Tree
from cprtest.paths import VENV, cache_dir
from cprtest.provision import apt, progress
from cprtest.provision.aptroot import Deb
from cprtest.provision.files import new_directory, verify_sha256, write_record
from cprtest.provision.processes import run_logged
from cprtest.provision.qemu_source import Packaged

_PROGRAM = "usr/bin/qemu-system-x86_64"
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios")
_LIBRARIES = "lib"


def log_of(package: Packaged) -> Path:
    """Where what was said is kept."""
    return cache_dir() / "logs" / f"{package.flavour}.log"


def fetch(package: Packaged) -> None:
    """Fetch the packages, and lay out what QEMU needs of them. Raises CprError."""
    log = log_of(package)
    log.unlink(missing_ok=True)
    parent = package.directory.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packages-", dir=parent) as scratch:
        debs = _debs(package)
        for deb in debs:
            if deb.name == "qemu-system-x86":
                verify_sha256(deb.path, package.sha256)
        with progress.task(f"QEMU {package.flavour}: unpack"):
            apt.extract(debs, Path(scratch))
            with new_directory(package.directory) as result:
                _lay_out(Tree(Path(scratch)), result)
                _bind(result, package.directory, log)
                versions = {deb.name: deb.version for deb in debs}
                write_record(
                    result / "build.json",
                    {"flavour": package.flavour, "versions": {"qemu": package.version, **versions}},
                )


def _debs(package: Packaged) -> list[Deb]:
    try:
        return apt.fetch_debs([f"qemu-system-x86={package.version}"], suite=package.suite)
    except CprError as error:
        advice = f"put the version that Debian {package.suite} has now into assets/qemu/debian.toml"
        raise CprError(f"{error} If the mirror has dropped it, {advice}.") from error


def _lay_out(tree: Tree, result: Path) -> None:
    for directory in ("bin", _LIBRARIES, "share/qemu"):
        (result / directory).mkdir(parents=True)
    shutil.copy2(tree.root / _PROGRAM, result / "bin")
    for path in tree.libraries([_PROGRAM]).values():
        shutil.copy2(path, result / _LIBRARIES / path.name)
    for directory in _FIRMWARE:
        for path in (tree.root / directory).iterdir():
            if path.is_file():
                shutil.copy2(path, result / "share" / "qemu" / path.name)


def _bind(result: Path, final: Path, log: Path) -> None:
    """Tell the program where its loader and its libraries will be."""
    (loader,) = (result / _LIBRARIES).glob("ld-linux*")
    where = str(final / _LIBRARIES)
    command: list[str | Path] = [VENV / "bin" / "patchelf", "--set-interpreter", f"{where}/{loader.name}"]
    # Not RUNPATH: the libraries' own libraries are to be found as well.
    command += ["--force-rpath", "--set-rpath", where, result / "bin" / Path(_PROGRAM).name]
    run_logged(command, log, "telling QEMU where its libraries are")
