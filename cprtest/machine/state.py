# SPDX-License-Identifier: GPL-2.0-or-later
"""Saved running guests, so that a test does not wait for a kernel to boot.

A guest is booted once for each shape (QEMU binary, image, machine, devices), saved running with
the mapped-ram format, and restored for every test. Restoring takes about a second where booting
takes 2 (bare host, TCG) to 18 (lab). Numbers: docs/performance.md.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError
from cprtest.machine.process import Machine


def directory(shape: str) -> Path:
    """Where the state of a shape is kept: CACHE/state/SHAPE."""
    return paths.cache_dir() / "state" / shape


@contextmanager
def _only_one(shape: str) -> Iterator[None]:
    """Two tests that need the same new state: one makes it, the other waits."""
    root = paths.cache_dir() / "state"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{shape}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(shape: str, boot: Callable[[Path], Machine]) -> Path:
    """The file with the saved state of `shape`, made with `boot` when there is none.

    `boot` starts a guest of that shape, waits until it is usable, and returns its machine. It is given
    a directory for its logs. The machine is ended here.
    """
    final = directory(shape)
    file = final / "state"
    if file.exists():
        return file
    with _only_one(shape):
        if file.exists():
            return file
        making = Path(tempfile.mkdtemp(dir=final.parent, prefix=f"{shape}."))
        try:
            machine = boot(making)
            try:
                save(machine, making / "state")
            finally:
                machine.quit()
            making.rename(final)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    return file


def save(machine: Machine, file: Path) -> None:
    """Save the running guest of `machine` to `file`; it is stopped afterwards."""
    _prepare(machine)
    machine.qmp.command("migrate", uri=f"file:{file}")
    _wait(machine, "save")


def restore(machine: Machine, file: Path) -> None:
    """Load `file` into `machine`, which was started with `-incoming defer`; the guest runs afterwards."""
    _prepare(machine)
    machine.qmp.command("migrate-incoming", uri=f"file:{file}")
    _wait(machine, "load")
    machine.wait_run_state("running", seconds=20)


def _prepare(machine: Machine) -> None:
    capabilities = [{"capability": name, "state": True} for name in ("events", "mapped-ram")]
    machine.qmp.command("migrate-set-capabilities", capabilities=capabilities)


def _wait(machine: Machine, verb: str) -> None:
    """Wait for the end of the save or load, then forget the capabilities."""
    machine.qmp.wait_event("MIGRATION", seconds=60, status="completed")
    info = machine.qmp.command("query-migrate")
    if info.get("status") != "completed":
        raise CprError(
            f"QEMU could not {verb} the guest's state: {info.get('error-desc', info)}; log: {machine.log}"
        )
    machine.qmp.command(
        "migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": False}]
    )
