# SPDX-License-Identifier: GPL-2.0-or-later
"""Saved running guests, so that a test does not wait for a kernel to boot.

A guest is booted once for each shape (QEMU binary, image, machine, devices), saved running with
the mapped-ram format, and restored for every test. Restoring takes about a second where booting
takes 2 (bare host, TCG) to 18 (lab). Numbers: docs/performance.md.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError
from cprtest.host.runs import Run
from cprtest.machine.process import Machine

# Changes when what is saved, or how, changes: older files are then left alone.
_FORMAT = 4
_MEMORY = Path("/dev/shm")
_CHUNK = 256 * 1024
_HOLE = bytes(_CHUNK)
_KEEP_DAYS = 7
"""A state is removed that long after its last use: each is some 80 MB, and a new QEMU needs new ones."""
_SPARE = 10 << 30
"""Bytes of the disk that states leave free: where there is less, those go that nobody used for an hour."""


def directory(shape: str) -> Path:
    """Where the state of a shape is kept: CACHE/state/FORMAT-SHAPE."""
    return paths.cache_dir() / "state" / f"{_FORMAT}-{shape}"


@contextmanager
def _only_one(shape: str) -> Iterator[None]:
    """Two tests that need the same new state: one makes it, the other waits."""
    root = paths.cache_dir() / "state"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{shape}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(shape: str, boot: Callable[[], Machine]) -> Path:
    """The file with the saved state of `shape`, made with `boot` when there is none.

    `boot` starts a guest of that shape, waits until it is usable, and returns its machine. It is ended here.
    """
    final = directory(shape)
    if not (final / "state").exists():
        with _only_one(shape):
            if not (final / "state").exists():
                prune(final.parent)
                _make(final, boot)
    os.utime(final)
    return final / "state"


def prune(store: Path) -> None:
    """Remove from `store` what nobody has used for a week, states and locks; more where space is short."""
    now = time.time()
    found = []
    for path in store.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another job's, which is done with it
            found.append((path.stat().st_mtime, path))
    for used, path in sorted(found):
        short = path.is_dir() and now - used > 3600 and shutil.disk_usage(store).free < _SPARE
        if now - used < _KEEP_DAYS * 86400 and not short:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _make(final: Path, boot: Callable[[], Machine]) -> None:
    making = Path(tempfile.mkdtemp(dir=final.parent, prefix=f"{final.name}."))
    Run.start().note(scratch=str(making))  # for the next start, when we are killed
    try:
        # QEMU writes page by page, which a lab's 9p takes minutes for: save to memory, copy in one go.
        with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="cpr-state-") as scratch:
            Run.start().note(scratch=str(scratch))
            machine = boot()
            try:
                machine.qmp.command("stop")
                save(machine, Path(scratch) / "state")
            finally:
                machine.quit()
            _copy(Path(scratch) / "state", making / "state")
        _publish(making, final)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _publish(making: Path, final: Path) -> None:
    """Give a finished state its name. Another lab may have been faster: its locks are not ours."""
    try:
        making.rename(final)
    except OSError:
        if not (final / "state").exists():
            raise
        shutil.rmtree(making)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, leaving its holes: two thirds of a saved guest's memory are zero."""
    size = source.stat().st_size
    with source.open("rb") as reading, target.open("wb") as writing:
        offset = 0
        while offset < size:
            chunk = os.pread(reading.fileno(), _CHUNK, offset)
            if chunk != _HOLE:
                os.pwrite(writing.fileno(), chunk, offset)
            offset += len(chunk)
        writing.truncate(size)


def save(machine: Machine, file: Path) -> None:
    """Save the guest of `machine` to `file`; one that runs is stopped for it by QEMU, as late as possible."""
    _migrate(machine, "migrate", file)


def restore(machine: Machine, file: Path) -> None:
    """Load the guest that was saved stopped into `machine`; it runs afterwards. As `load`."""
    load(machine, file)
    machine.wait_run_state("paused", seconds=20)
    machine.qmp.command("cont")


def load(machine: Machine, file: Path) -> None:
    """Load `file` into `machine`, which was started with `-incoming defer`. The guest is as it was."""
    _migrate(machine, "migrate-incoming", file)


def _migrate(machine: Machine, command: str, file: Path) -> None:
    """Save or load, wait for the end, then forget the capability that a transfer must not have."""
    capabilities = [{"capability": name, "state": True} for name in ("events", "mapped-ram")]
    machine.qmp.command("migrate-set-capabilities", capabilities=capabilities)
    since = len(machine.qmp.events)  # a guest that is saved may have been loaded before
    machine.qmp.command(command, uri=f"file:{file}")
    ended = machine.qmp.wait_any("MIGRATION", "status", ("completed", "failed"), seconds=30, since=since)
    if ended.data["status"] == "failed":
        error = machine.qmp.command("query-migrate").get("error-desc")
        raise CprError(f"QEMU could not {command} {file}: {error or machine.gone()}; log: {machine.log}")
    machine.qmp.command(
        "migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": False}]
    )
