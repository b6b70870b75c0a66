# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/setup` and `scripts/build-qemu`: what to do, in which order, what side by side.

Two stages. The first runs with the system's Python: Debian packages and venv. The second runs in the venv:
kernel and guest image are prepared while QEMU compiles.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from cprtest import manpage
from cprtest.errors import NotInstalled, exit_status
from cprtest.paths import CHECKOUT, VENV, cache_dir
from cprtest.provision import installed, packages, processes, programs, progress, venv
from cprtest.provision.files import locked, write_record
from cprtest.provision.installed import NEWEST, SUITE
from cprtest.provision.qemu_source import DEFAULT, LAB, flavour_of, flavours, packaged

LOCK = "setup"

_STATUS = """
    0    all is there
    1    something could not be fetched or built; one sentence says what, and names the log
    2    wrong command line
    130  interrupted
    """
_SETUP = manpage.sections(
    files="""
        .venv                                     Python packages, of assets/requirements.txt
        ${XDG_CACHE_HOME:-~/.cache}/qemu-cpr      all else; logs/ has what the builds said
        """,
    exit_status=_STATUS,
)
_BUILD = manpage.sections(
    files="""
        CACHE/qemu/FLAVOUR-VERSION-HASH           bin/qemu-system-x86_64, bin/qemu-img, share/qemu
        CACHE/logs/build-qemu-FLAVOUR.log         what the build said
        """,
    exit_status=_STATUS,
    examples="qemu=$(scripts/build-qemu stock) && scripts/run --qemu $qemu",
)


@dataclass(frozen=True)
class Wanted:
    """What set-up is to provide. suites: Debian's, whose kernels guests run. modules: of the kernel."""

    flavours: tuple[str, ...] = (LAB, DEFAULT)
    suites: tuple[str, ...] = (SUITE,)
    modules: tuple[str, ...] = installed.MODULES


EVERYTHING = Wanted(
    (LAB, "stock", DEFAULT, *packaged()), (SUITE, NEWEST), (*installed.MODULES, *installed.SAMPLES)
)


def nothing_to_do(wanted: Wanted = Wanted()) -> bool:
    """Is everything there? Reads a few files and asks dpkg; takes a fraction of a second."""
    names = packages.wanted(packages.LIST.read_text(encoding="utf-8"))
    try:
        for suite in wanted.suites:
            installed.guest_image(suite)
        for name in wanted.modules:
            installed.module(name)
        installed.passt()
        for flavour in wanted.flavours:
            installed.qemu(flavour)
    except NotInstalled:
        return False
    return venv.current() and not programs.missing() and len(packages.installed(names)) == len(names)


def first_stage() -> None:
    """Debian packages and venv; needs nothing but the standard library."""
    host = packages.ensure()
    venv.ensure()
    write_record(cache_dir() / "installed" / "host.json", {"versions": host})


def second_stage(wanted: Wanted, refresh: bool) -> Path:
    """Kernels, modules, guest images and QEMUs; returns the path of the last QEMU. Runs in the venv."""
    from cprtest.provision import kernel, modules, passt, qemu  # noqa: PLC0415 - often there is nothing to do

    def guest() -> None:
        for source in programs.missing():
            programs.compiled(source)
        for suite in wanted.suites:
            kernel.ensure(refresh, suite)
            build_guest_image(refresh, suite)
        modules.ensure(wanted.modules)
        passt.ensure(refresh)

    results: list[Path] = []
    with progress.shown():
        side_by_side(guest, lambda: results.extend(map(qemu.ensure, wanted.flavours)))
    return results[-1]


def build_guest_image(refresh: bool, suite: str) -> None:
    """Build the guest image for a suite's kernel unless the one of today's sources is there."""
    if not refresh:
        try:
            installed.guest_image(suite)
            return
        except NotInstalled:
            pass
    from cprtest.guest import image  # noqa: PLC0415 - slow, and seldom needed

    with progress.task("guest image"):
        directory, versions = image.build(cache_dir() / "guest", suite)
    write_record(installed.guest_record(suite), {"ident": directory.name, "versions": versions})


def side_by_side(*jobs: Callable[[], None]) -> None:
    """Run jobs in threads; the first failure ends the others and is raised."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in done if (error := future.exception())]
            if failed:
                raise failed[0]
        except BaseException:
            processes.stop_all()
            raise


def _run(wanted: Wanted, refresh: bool) -> Path:
    """Do what is missing; the second stage is a new process, of the venv's Python."""
    if not refresh and nothing_to_do(wanted):
        return flavour_of(wanted.flavours[-1]).binary
    with locked(LOCK):
        first_stage()
        if Path(sys.prefix) == VENV:
            return second_stage(wanted, refresh)
    sys.stderr.flush()
    os.chdir(CHECKOUT)
    python = str(VENV / "bin" / "python")
    return os.execv(python, [python, "-m", "cprtest.provision", *sys.argv[1:]])


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def guarded(action: Callable[[], int]) -> int:
    """Run a command's body; what a person can act on becomes one sentence and an exit status."""
    signal.signal(signal.SIGTERM, _end)
    try:
        return exit_status(action, "interrupted; run it again to go on.")
    except subprocess.CalledProcessError as error:
        print(f"error: `{' '.join(error.cmd[:3])}` failed: {error.stderr}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.strerror}: {error.filename or cache_dir()}", file=sys.stderr)
    return 1


def main(arguments: Sequence[str]) -> int:
    """Both commands: `setup` makes everything ready, `build-qemu FLAVOUR` also prints QEMU's path."""
    parser = argparse.ArgumentParser(prog="scripts", description="Make everything ready that tests need.")
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser(
        "setup",
        prog="scripts/setup",
        formatter_class=manpage.Formatter,
        description=manpage.description(
            """
            Fetch and build what is missing: Debian packages of the host (needs root or sudo, once), the
            venv, the kernel and the guest's image, QEMU for the lab and with our series. Does nothing if all
            is there. Interrupted, it goes on where it was.
            """
        ),
        epilog=_SETUP,
    )
    setup.add_argument(
        "--refresh", action="store_true", help="look for a newer kernel and newer packages of the guest"
    )
    setup.add_argument(
        "--full",
        action="store_true",
        help="also what only some tests of the suite full need: QEMU as it is, Debian's own, the newest "
        "kernel, and the kernel's sample modules, which need its source (150 MB)",
    )
    build = commands.add_parser(
        "build-qemu",
        prog="scripts/build-qemu",
        formatter_class=manpage.Formatter,
        description="Build a flavour of QEMU from its source, or fetch Debian's; the last line is its path.",
        epilog=_BUILD,
    )
    build.add_argument(
        "flavour",
        choices=flavours(),
        help="as it is; for the lab; with our series; with faults to switch on; Debian's own packages",
    )
    options = parser.parse_args(arguments)

    def action() -> int:
        wanted = EVERYTHING if getattr(options, "full", False) else Wanted()
        if options.command == "build-qemu":
            wanted = replace(wanted, flavours=(options.flavour,))
        for flavour in wanted.flavours:
            flavour_of(flavour)
        path = _run(wanted, getattr(options, "refresh", False))
        if options.command == "build-qemu":
            print(path)
        return 0

    return guarded(action)
