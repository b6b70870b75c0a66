# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages that the host itself needs: assets/debian-packages.txt."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from cprtest.errors import CprError
from cprtest.paths import ASSETS
from cprtest.provision import progress
from cprtest.provision.aptroot import run_with_status

LIST = ASSETS / "debian-packages.txt"
# fresh cloud machines run unattended-upgrades in their first minutes: wait for its lock
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600")
UPDATE = ("apt-get", "update")


def wanted(text: str) -> list[str]:
    """Names in a package list: one a line, `#` begins a comment."""
    names = (line.partition("#")[0].strip() for line in text.splitlines())
    return [name for name in names if name]


def parse_installed(dpkg_query: str) -> dict[str, str]:
    """Version by name of what is installed, from lines of `name status version`."""
    fields = (line.split() for line in dpkg_query.splitlines())
    return {found[0]: found[2] for found in fields if len(found) == 3 and found[1] == "installed"}


def installed(names: Sequence[str]) -> dict[str, str]:
    """Version by name of those packages that this host has."""
    if not shutil.which("dpkg-query"):
        raise CprError("this host has no dpkg: set-up needs Debian 12 or later on x86-64.")
    form = "${Package} ${db:Status-Status} ${Version}\n"
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", form, *names], capture_output=True, text=True, check=False
    )
    return parse_installed(done.stdout)


def by_hand(missing: Sequence[str]) -> str:
    """Say which command a person with root rights must run."""
    return (
        f"{len(missing)} Debian packages are missing and this user is neither root nor may use sudo. "
        f"Have this run as root, then start again:\n"
        f"  apt-get update && apt-get install --no-install-recommends {' '.join(missing)}"
    )


def _privilege() -> list[str] | None:
    """The command prefix that makes us root; None if there is none."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    asks = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode != 0
    return ["sudo"] if not asks or sys.stdin.isatty() else None


def ensure() -> dict[str, str]:
    """Install what is missing; returns version by name. Raises CprError if it cannot."""
    names = wanted(LIST.read_text())
    missing = [name for name in names if name not in installed(names)]
    if missing:
        prefix = _privilege()
        if prefix is None:
            raise CprError(by_hand(missing))
        lists = subprocess.run(
            ["apt-get", "indextargets"], capture_output=True, text=True, check=False
        ).stdout
        if not lists:
            _apt(prefix, UPDATE, "package lists of this host")
        try:
            _apt(prefix, [*INSTALL, *missing], f"{len(missing)} Debian packages for this host")
        except CprError:
            # the lists may name versions that the mirror has dropped since
            _apt(prefix, UPDATE, "package lists of this host")
            _apt(prefix, [*INSTALL, *missing], f"{len(missing)} Debian packages for this host")
    return installed(names)


def _apt(prefix: Sequence[str], command: Sequence[str], what: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    if not prefix:
        with progress.task(what) as task:
            run_with_status(command, task, environment, finish=True)  # dpkg cut short needs repair
        return
    # sudo may ask for a password and passes no descriptors on: apt speaks for itself, on standard error
    argv = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", *command]
    print(f"{what}: {' '.join(argv)}", file=sys.stderr, flush=True)
    if subprocess.run(argv, stdout=sys.stderr, check=False).returncode:
        raise CprError(f"`{' '.join(argv[:4])}` failed, see above.")
