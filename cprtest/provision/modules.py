# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules for the suite's kernel, built from C sources without root.

Debian's headers package and kbuild are unpacked into CACHE/headers/RELEASE; what is built from them goes to
CACHE/modules/NAME-DIGEST/NAME.ko. The host's gcc compiles, of whatever version.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cprtest.errors import CprError
from cprtest.paths import ASSETS, cache_dir
from cprtest.provision import apt, installed, progress
from cprtest.provision.aptroot import Deb
from cprtest.provision.files import new_directory, remove_scratch
from cprtest.provision.processes import run_logged

_ELF = b"\x7fELF"
_LOADER = "lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def ensure(names: Sequence[str]) -> None:
    """Build those of installed.MODULES and SAMPLES that are not there yet for the kernel in use.

    A sample needs the kernel's source, 150 MB to fetch.
    """
    for name in names:
        final = installed.module_path(name)
        if final.exists():
            continue
        with tempfile.TemporaryDirectory(prefix="cpr-module-") as scratch:
            sources = ASSETS / name
            if name in installed.SAMPLES:
                sources = Path(scratch)
                (sources / f"{name}.c").write_bytes(_source_file(installed.SAMPLES[name]))
                (sources / "Kbuild").write_text(f"obj-m := {name}.o\n")
            build(name, sources, final)


def _source_file(path: str) -> bytes:
    """One file of the kernel's source. Raises CprError."""
    kernel = installed.kernel()
    series = ".".join(kernel.release.split(".")[:2])
    deb = apt.fetch_alone(f"linux-source-{series}")
    _same_version([deb])
    with (
        progress.task(f"kernel source: {path}"),
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb.path], stdout=subprocess.PIPE) as unpack,
        tarfile.open(fileobj=unpack.stdout, mode="r|") as package,
    ):
        for outer in package:
            if outer.name.endswith(f"/linux-source-{series}.tar.xz"):
                with tarfile.open(fileobj=package.extractfile(outer), mode="r|xz") as source:
                    for inner in source:
                        if inner.name == f"linux-source-{series}/{path}":
                            found = source.extractfile(inner)
                            assert found is not None, "it is a plain file"
                            content = found.read()
                            unpack.kill()
                            return content
    raise CprError(f"{path} is not in {deb.path.name}.")


def _same_version(debs: Sequence[Deb]) -> None:
    """Raises CprError unless all `debs` were made from the source of the kernel in use."""
    version = installed.kernel().version
    for deb in debs:
        if deb.version != version:
            raise CprError(
                f"{deb.name} is not of the kernel's version, {version}: run `scripts/setup --refresh`."
            )


def build(name: str, sources: Path, final: Path) -> None:
    """Build the module `name` from the directory `sources`, which has a Kbuild. Raises CprError."""
    tree = headers()
    release = installed.kernel().release
    with progress.task(f"kernel module {name}"), new_directory(final.parent) as scratch:
        work = scratch / "build"
        shutil.copytree(sources, work)
        command: list[str | Path] = [
            *("make", "-C", tree / "usr/src" / f"linux-headers-{release}", f"M={work}", "CC=gcc"),
            # Newer than Debian 12's gcc; without it kbuild asks for the same in the older way.
            *("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "modules"),
        ]
        environment = {key: value for key, value in os.environ.items() if key not in ("ARCH", "MAKEFLAGS")}
        log = cache_dir() / "logs" / f"module-{name}.log"
        run_logged(command, log, f"building the kernel module {name}", environment=environment)
        # Without what a debugger wants: the kernel reads all of a module (cprtest/lab/kernel.py).
        run_logged(["objcopy", "-g", work / final.name, scratch / final.name], log, f"stripping {final.name}")
        shutil.rmtree(work)


def headers() -> Path:
    """The tree with the kernel's headers and kbuild, fetched and unpacked if need be."""
    kernel = installed.kernel()
    final = cache_dir() / "headers" / kernel.release
    if final.is_dir():
        return final
    remove_scratch(final.parent)
    # Named after flavour (amd64) and featureset; the second has no flavour in its name.
    common = kernel.release.rpartition("-")[0]
    names = (
        f"linux-headers-{kernel.release}",
        f"linux-headers-{common}-common",
        f"linux-kbuild-{common}",
        "libc6",
    )
    debs = [apt.fetch_alone(name) for name in names]
    _same_version(debs[:-1])
    with progress.task(f"kernel headers {kernel.release}: unpack"), new_directory(final) as scratch:
        apt.extract(debs, scratch)
        _settle(scratch, final, kernel.release)
    return final


def _settle(tree: Path, final: Path, release: str) -> None:
    """Make an unpacked tree work where it is, which will be `final`, with whatever C library the host has."""
    source = tree / "usr/src" / f"linux-headers-{release}"
    makefile = source / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{final}/usr/src/"))
    # kbuild would add type information (BTF) from it, by programs that the host may not have.
    (source / "vmlinux").unlink(missing_ok=True)
    kbuild = tree / "usr/lib" / f"linux-kbuild-{release.rpartition('-')[0]}"
    programs = [path for path in kbuild.rglob("*") if path.is_file() and not path.is_symlink()]
    for program in programs:
        with program.open("rb") as file:
            if file.read(4) != _ELF:
                continue
        binary = program.with_name(f"{program.name}.elf")
        program.rename(binary)
        where = final / binary.relative_to(tree)
        program.write_text(
            "#!/bin/sh\n"
            f'exec "{final / _LOADER}" --argv0 "$0" --library-path "{final / _LIBRARIES}" "{where}" "$@"\n'
        )
        program.chmod(0o755)
