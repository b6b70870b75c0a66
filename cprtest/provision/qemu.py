# SPDX-License-Identifier: GPL-2.0-or-later
"""Build QEMU from the pinned Debian source, or fetch Debian's own: `scripts/build-qemu`.

The result is CACHE/qemu/FLAVOUR-VERSION-HASH/{bin,share/qemu}, whole or not at all. The build tree is
removed, compiled objects stay in CACHE/ccache. CACHE/logs/build-qemu-FLAVOUR.log has all that was said.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cprtest.errors import CprError
from cprtest.paths import VENV, cache_dir
from cprtest.provision import apt, debian_qemu, installed, progress
from cprtest.provision.files import new_directory, remove_scratch, write_record
from cprtest.provision.processes import run_logged
from cprtest.provision.qemu_source import Build, Packaged, build_of, flavour_of

SPACE = 1 << 30  # bytes: source and objects take 0.6 GiB, ccache and the result the rest
TARGETS = ("qemu-system-x86_64", "qemu-img")


def ensure(flavour: str) -> Path:
    """Build or fetch a flavour unless it is there; returns the path of its qemu-system-x86_64.

    Call it under the set-up's lock. Raises CprError naming the log.
    """
    wanted = flavour_of(flavour)
    if not wanted.binary.exists():
        remove_scratch(wanted.directory.parent)
        if isinstance(wanted, Packaged):
            _fetch(wanted)
        else:
            _build(build_of(flavour))
    return wanted.binary


def _fetch(package: Packaged) -> None:
    debian_qemu.fetch(package)
    try:
        # Its paths are those of its last place, so it cannot be tried before it is there.
        _verify(package.binary, debian_qemu.log_of(package))
    except CprError:
        shutil.rmtree(package.directory)
        raise


def _build(build: Build) -> None:
    cache = cache_dir()
    free = shutil.disk_usage(cache).free
    if free < SPACE:
        raise CprError(
            f"building QEMU needs {SPACE >> 30} GiB free in {cache}, there are {free / 2**30:.1f} GiB."
        )
    log = cache / "logs" / f"build-qemu-{build.flavour}.log"
    log.unlink(missing_ok=True)
    tree = cache / "build" / "qemu"  # always the same path, so that ccache finds what it compiled before
    shutil.rmtree(tree, ignore_errors=True)
    try:
        _unpack(build, tree, log)
        _compile(build, tree, log)
        with new_directory(build.directory) as result:
            _install(build, tree, result, log)
    finally:
        _remove(tree)


def _remove(tree: Path) -> None:
    """Remove the build tree; a compiler that is being interrupted may still write into it."""
    for _ in range(20):
        shutil.rmtree(tree, ignore_errors=True)
        if not tree.exists():
            break
        time.sleep(0.1)


def _unpack(build: Build, tree: Path, log: Path) -> None:
    """Fetch, verify and unpack the source, then apply Debian's patches and the flavour's own."""
    archives = {}
    for role, file in build.sources.items():
        name = Path(file["path"]).name
        archives[role] = apt.fetch_file(file["path"], file["sha256"], cache_dir() / "sources" / name)
    tree.mkdir(parents=True)
    with progress.task(f"QEMU {build.version}: unpack and patch"):
        unpack: list[str | Path] = ["tar", "--extract", "--no-same-owner", "--file"]
        run_logged([*unpack, archives["source"], "--strip-components=1"], log, "unpacking QEMU", cwd=tree)
        run_logged([*unpack, archives["debian"]], log, "unpacking Debian's patches", cwd=tree)
        series = (tree / "debian" / "patches" / "series").read_text(encoding="utf-8").split("\n")
        names = [line.split()[0] for line in series if line.strip() and not line.startswith("#")]
        for patch in [*(tree / "debian" / "patches" / name for name in names), *build.patches]:
            command: list[str | Path] = ["patch", "-p1", "--batch", "--forward", "-i", patch]
            run_logged(command, log, f"applying {patch.name}", cwd=tree)


def compiled(source: Path, objects: Path, arguments: Sequence[str], what: str, log: Path) -> None:
    """Configure a source tree for the directory `objects`, unless it is already, and compile QEMU there.

    `what` is built is said with ninja's own count as progress. Raises CprError naming the log.
    """
    environment = _environment(objects.parent)
    if not (objects / "build.ninja").exists():
        objects.mkdir(exist_ok=True)
        configure = [str(source / "configure"), f"--python={VENV}/bin/python", "--prefix=/qemu", *arguments]
        with progress.task(f"{what}: configure"):
            run_logged(configure, log, f"configuring {what}", environment=environment, cwd=objects)
    with progress.task(f"{what}: compile") as task:

        def count(line: str) -> None:
            if found := re.match(r"\[(\d+)/(\d+)\] (.*)", line):
                task.update(100 * int(found[1]) / int(found[2]), found[3])

        run_logged(
            ["ninja", *TARGETS], log, f"compiling {what}", environment=environment, cwd=objects, on_line=count
        )


def _environment(home: Path) -> dict[str, str]:
    """That of a build: ccache stands in for the compiler."""
    return {
        **os.environ,
        "PATH": f"/usr/lib/ccache:{os.environ['PATH']}",  # Debian's links named gcc and cc that are ccache
        "CCACHE_DIR": str(cache_dir() / "ccache"),
        "CCACHE_MAXSIZE": "2G",
        "LC_ALL": "C.UTF-8",
        "HOME": str(home),  # configure probes for tools some of which write there
    }


def _compile(build: Build, tree: Path, log: Path) -> None:
    objects = tree / "b"
    compiled(tree, objects, build.arguments, f"QEMU {build.version} {build.flavour}", log)
    # QEMU's configure offers these only with a 32-bit libgcc, which they do not need
    roms = objects / "pc-bios" / "optionrom"
    (roms / "config.mak").touch()
    tools = [f"TOPSRC_DIR={tree}", "CC=gcc", "LD=ld", "OBJCOPY=objcopy", f"PYTHON={VENV}/bin/python"]
    run_logged(["make", "-C", roms, "all", *tools], log, "making option ROMs", environment=_environment(tree))


def _install(build: Build, tree: Path, result: Path, log: Path) -> None:
    """Copy programs and firmware, and see that this QEMU finds its firmware and starts."""
    (result / "bin").mkdir()
    firmware = result / "share" / "qemu"
    firmware.mkdir(parents=True)
    for name in TARGETS:
        shutil.copy2(tree / "b" / name, result / "bin" / name)
    versions = apt.fetch_tree(build.firmware, tree / "firmware")
    roms = [
        *(tree / "b" / "pc-bios" / "optionrom").glob("*.bin"),
        *(tree / "firmware" / "usr" / "share" / "seabios").glob("*.bin"),
        *(tree / "firmware" / "usr" / "share" / "qemu").glob("*.rom"),
    ]
    for rom in roms:
        shutil.copy2(rom.resolve(), firmware / rom.name)
    _verify(result / "bin" / TARGETS[0], log)
    write_record(
        result / "build.json", {"flavour": build.flavour, "versions": {"qemu": build.version, **versions}}
    )


def _verify(binary: Path, log: Path) -> None:
    """Boot the machine's firmware up to the first instruction: a missing ROM or library shows here."""
    machine = ["-machine", "q35", "-accel", "tcg", "-display", "none", "-nodefaults", "-S"]
    devices = ["-device", "virtio-net-pci", "-device", "VGA", "-monitor", "stdio"]
    command = [str(binary), *installed.firmware(binary), *machine, *devices]
    done = subprocess.run(  # takes a second or two
        command, input="quit\n", capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise CprError(f"{binary} does not start: {done.stderr.strip()} The log is {log}")
