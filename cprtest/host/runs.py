# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs, and the leftovers of runs that were killed.

A run is a journal (see journal.py) whose flock is held by its owner as long as the owner lives; the
kernel lets go of the lock however the owner ends. Every process started under the run carries
CPRTEST_RUN=ID. So a journal that nobody holds a lock on is a leftover, and tells what to clean away.

One lock on the directory is held while a run is created or leftovers are cleaned: a journal can
never be seen between its creation and its locking, and two cleaners never meet.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from cprtest import paths
from cprtest.errors import CprError
from cprtest.host import journal, processes
from cprtest.host.processes import MARK
from cprtest.limits import KILL_LIMIT

_SOCKET_BASE_LENGTH = 40
"""Longest base of a scratch directory: /cpr-xxxxxxxx and a name of 50 still fit sun_path (108, unix(7))."""


class Run:
    """This process's part in a run: its owner, or one that joined the owner it was started by."""

    _current: ClassVar["Run | None"] = None

    def __init__(self, path: Path, lock: int | None, cleaned: list[str]) -> None:
        self.path = path
        self.ident = path.stem
        self.cleaned = cleaned
        """What clean_leftovers() said when this run was started; empty for a process that joined."""
        self._lock = lock
        self._scratch: list[Path] = []
        self._marked = processes.carries_mark(os.getpid(), self.ident)

    @classmethod
    def start(cls) -> "Run":
        """Begin a run, after cleaning away leftovers; a process already under a run joins that one.

        Raises CprError when the run that this process belongs to has been killed.
        """
        if cls._current is not None:
            return cls._current
        inherited = os.environ.get(MARK)
        cls._current = _join(inherited) if inherited else _create()
        os.environ[MARK] = cls._current.ident
        return cls._current

    def scratch(self, base: Path | None = None) -> Path:
        """A new private directory in `base`, removed when the run ends.

        By default its path is short enough for UNIX sockets.
        """
        path = (base or _socket_base()) / f"cpr-{secrets.token_hex(4)}"
        journal.append(self.path, scratch=str(path))
        path.mkdir(mode=0o700)
        self._scratch.append(path)
        return path

    def note(self, **entry: object) -> None:
        """Write down what is about to be left on the host (the kinds are listed in journal.py)."""
        journal.append(self.path, **entry)

    def close(self) -> list[str]:
        """Leave the run, removing this process's scratch directories; the owner ends it for all.

        Returns one sentence for everything that should have been gone by then.
        """
        if Run._current is self:
            Run._current = None
        for path in self._scratch:
            shutil.rmtree(path, ignore_errors=True)
        self._scratch.clear()
        if self._lock is None:
            return []
        os.environ.pop(MARK, None)
        with _directory_lock(self.path.parent):
            said = _clean(self.path, f"left at the end of run {self.ident}")
            os.close(self._lock)
            self._lock = None
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forked(self) -> None:
        """In a child made by os.fork: it joined, and must not keep the owner's lock alive."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._scratch = []
        if self._marked:
            return
        # /proc/PID/environ shows what execve was given, and there was no execve since the run began.
        started = processes.start_time(os.getpid())
        with contextlib.suppress(OSError):
            journal.append(self.path, process=os.getpid(), start=started)


def clean_leftovers() -> list[str]:
    """Remove what killed runs left behind, and only that. Returns one sentence for each thing removed."""
    directory = runs_dir()
    with _directory_lock(directory):
        return _clean_dead(directory)


def runs_dir() -> Path:
    """Where the journals are.

    In the lab they must not be in the cache: it is on 9p there, which does not keep locks for us, and
    a lab takes everything that could be left over with it.
    """
    directory = Path("/run/qemu-cpr/runs") if paths.lane() == "lab" else paths.cache_dir() / "runs"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _create() -> Run:
    directory = runs_dir()
    with _directory_lock(directory):
        cleaned = _clean_dead(directory)
        path = directory / f"{os.getpid()}-{secrets.token_hex(6)}.run"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        journal.append(path, **journal.header())
    return Run(path, lock, cleaned)


def _join(ident: str) -> Run:
    path = runs_dir() / f"{ident}.run"
    if not path.exists() or _try_lock(path, fcntl.LOCK_SH):
        raise CprError(
            f"The run {ident} that this process was started under is over or was killed. "
            f"Start the command again, without {MARK} in the environment."
        )
    return Run(path, None, [])


def _clean_dead(directory: Path) -> list[str]:
    """Clean until nothing more is found: what is killed in one round may have owned a run itself."""
    said: list[str] = []
    seen: set[Path] = set()
    while dead := [path for path in sorted(directory.glob("*.run")) if path not in seen and _is_dead(path)]:
        seen.update(dead)
        for path in dead:
            said += _clean(path, f"left by run {path.stem}, which was killed")
    return said


def _is_dead(path: Path) -> bool:
    return not journal.read(path).from_elsewhere and _try_lock(path, fcntl.LOCK_EX)


def _clean(path: Path, whose: str) -> list[str]:
    """Remove all that the journal at `path` names; the journal goes last, and only if all went well."""
    record = journal.read(path)
    said: list[str] = []
    try:
        if not record.from_earlier_boot:
            said += [f"Killed process {name}, {whose}." for name in _kill(path.stem, record)]
            said += [f"{what}, {whose}." for what in _return_devices(record)]
            said += [f"Removed mediated device {name}, {whose}." for name in _remove_mdevs(record)]
            said += [f"Removed tracer {name}, {whose}." for name in _remove_tracers(record)]
        for scratch in record.scratch:
            if scratch.is_dir() and not scratch.is_symlink():
                shutil.rmtree(scratch)
                said.append(f"Removed directory {scratch}, {whose}.")
    except (OSError, CprError) as error:
        return [
            *said,
            f"Not all could be removed that was {whose}: {error} (will be tried again; see {path})",
        ]
    path.unlink()
    return said


def _kill(ident: str, record: journal.Record) -> list[str]:
    started = dict(record.processes)

    def is_ours(pid: int) -> bool:
        if pid == os.getpid():
            return False
        return processes.carries_mark(pid, ident) or (
            pid in started and processes.start_time(pid) == started[pid]
        )

    def find() -> list[int]:
        return [pid for pid in (*processes.processes_of(ident), *started) if is_ours(pid)]

    return processes.kill_all(find, is_ours, KILL_LIMIT)


def _return_devices(record: journal.Record) -> list[str]:
    if not record.bound:
        return []
    from cprtest.host.vfio import give_back_all  # noqa: PLC0415 - hardly any run binds a device

    return give_back_all(record.bound)


def _remove_mdevs(record: journal.Record) -> list[str]:
    if not record.mdevs:
        return []
    from cprtest.host import mdev  # noqa: PLC0415 - hardly any run makes one

    return [name for name in record.mdevs if mdev.remove(name)]


def _remove_tracers(record: journal.Record) -> list[str]:
    if not record.tracers:
        return []
    from cprtest.host import tracing  # noqa: PLC0415 - only root has any

    return [name for name in record.tracers if tracing.remove(name)]


def _try_lock(path: Path, how: int) -> bool:
    """Whether nobody owns the run at `path`; the lock is let go of again at once."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _directory_lock(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _socket_base() -> Path:
    for base in (Path(os.environ.get("XDG_RUNTIME_DIR", "")), Path(tempfile.gettempdir())):
        short = len(str(base)) <= _SOCKET_BASE_LENGTH
        if base.is_absolute() and short and os.access(base, os.W_OK | os.X_OK):
            return base
    return Path("/tmp")


def _after_fork_in_child() -> None:
    if Run._current is not None:
        Run._current._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
