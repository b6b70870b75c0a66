# SPDX-License-Identifier: GPL-2.0-or-later
"""CHECKOUT/.venv from assets/requirements.txt, every file checked against its hash there.

Wheels are kept in CACHE/wheels, so that the next clone needs no network.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cprtest.errors import CprError
from cprtest.paths import ASSETS, CHECKOUT, VENV, cache_dir
from cprtest.provision import progress
from cprtest.provision.files import digest, read_record, write_record
from cprtest.provision.installed import venv_record
from cprtest.provision.processes import run_logged

LOCK = ASSETS / "requirements.txt"
PROJECT = CHECKOUT / "pyproject.toml"
# The distribution's own comes first: python3-venv belongs to it, and which one a pyenv shim is depends on
# the directory.
CANDIDATES = ("/usr/bin/python3", "python3", "python3.13", "python3.12", "python3.11")
PROBE = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print(sys.version.split()[0])"


def python() -> tuple[str, str]:
    """Choose the interpreter the venv is made with; returns its path and version. Raises CprError."""
    for name in CANDIDATES:
        path = shutil.which(name)
        if path is None:
            continue
        done = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return path, done.stdout.strip()
    raise CprError("no Python 3.11 or later with the venv module: install the Debian package python3-venv.")


def _key(version: str) -> str:
    return digest([LOCK, version, str(VENV)])


def current() -> bool:
    """Is the venv there, made from today's lock file and pyproject.toml? Runs nothing."""
    record = read_record(venv_record(), "key", "python", "project")
    return bool(
        record
        and record["key"] == _key(record["python"])
        and record["project"] == digest([PROJECT])
        and (VENV / "bin" / "python").exists()
    )


def ensure() -> None:
    """Make or renew the venv if need be. Call it under the set-up's lock."""
    if current():
        return
    log = cache_dir() / "logs" / "venv.log"
    record = read_record(venv_record(), "key", "python", "project")
    if record is None or record["key"] != _key(record["python"]) or not (VENV / "bin" / "python").exists():
        record = _make(log)
    with progress.task("venv: this project"):
        # compat: a line in a .pth file; the default is an import hook that costs time in every process
        options = [
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--config-settings",
            "editable_mode=compat",
        ]
        _pip(["install", *options, "--editable", str(CHECKOUT)], log, "installing the project in .venv")
    write_record(venv_record(), {**record, "project": digest([PROJECT])})


def _make(log: Path) -> dict[str, object]:
    if VENV.is_symlink():
        raise CprError(
            f"{VENV} is a link to {VENV.readlink()}, which set-up would empty. Remove the link: a checkout "
            "has a venv of its own."
        )
    path, version = python()
    print(f"venv: {VENV} with {path} ({version})", file=sys.stderr, flush=True)
    log.unlink(missing_ok=True)
    venv_record().unlink(missing_ok=True)
    with progress.task("venv: create"):
        run_logged([path, "-m", "venv", "--clear", VENV], log, "creating .venv")
    wheels = cache_dir() / "wheels"
    complete = wheels / f".complete-{digest([LOCK, version.rpartition('.')[0]])}"
    if not complete.exists():
        with progress.task("venv: download wheels") as task:
            total = _wanted()
            seen = 0

            def count(line: str) -> None:
                nonlocal seen
                seen += line.startswith("Collecting ")
                task.update(min(99, 100 * seen / total), line.strip())

            download = ["download", "--dest", str(wheels), "--only-binary", ":all:"]
            _pip([*download, "--require-hashes", "-r", str(LOCK)], log, "downloading wheels", count)
        complete.touch()
    with progress.task("venv: install wheels"):
        install = ["install", "--no-compile", "--no-index", "--find-links", str(wheels)]
        _pip([*install, "--require-hashes", "-r", str(LOCK)], log, "installing wheels in .venv")
        # The lab reads the venv without being able to write .pyc files. Some test data of packages is not
        # valid Python on purpose, so the exit status says nothing.
        command: list[str | Path] = [
            VENV / "bin" / "python",
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            VENV / "lib",
        ]
        run_logged(["sh", "-c", '"$@" || true', "sh", *command], log, "compiling .venv")
    return {"key": _key(version), "python": version, "versions": _versions()}


def _wanted() -> int:
    return sum("==" in line for line in LOCK.read_text(encoding="utf-8").splitlines())


def _versions() -> dict[str, str]:
    """Version by name, from the names of the installed packages' metadata directories."""
    found = (path.stem.partition("-") for path in VENV.glob("lib/python3*/site-packages/*.dist-info"))
    return {name: version for name, _, version in found}


def _pip(arguments: list[str], log: Path, what: str, on_line: object = None) -> None:
    environment = {
        **os.environ,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.pop("PIP_USER", None)  # refused inside a venv
    show = on_line if callable(on_line) else lambda _: None
    command: list[str | Path] = [
        VENV / "bin" / "python",
        "-m",
        "pip",
        *arguments,
        "--no-input",
        "--progress-bar",
        "off",
    ]
    run_logged(command, log, what, environment=environment, on_line=show)
