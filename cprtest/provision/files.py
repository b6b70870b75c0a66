# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are there whole or not at all, and the lock that keeps two set-ups apart."""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cprtest.errors import CprError
from cprtest.paths import cache_dir


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold CACHE/NAME.lock; waits for another holder, and says so. The kernel frees it when we die."""
    path = cache_dir() / f"{name}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another {name} (it holds {path})", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def new_directory(final: Path) -> Iterator[Path]:
    """Give a scratch directory that becomes `final` if the block ends well, and is removed if not."""
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        if final.exists():
            shutil.rmtree(final)
        scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_scratch(parent: Path) -> None:
    """Remove what a killed `new_directory` left in `parent`. Call it under the set-up's lock only."""
    for path in parent.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def read_record(path: Path, *fields: str) -> dict[str, Any] | None:
    """Read a JSON object; None if it is not there, not readable as one, or lacks one of `fields`."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and set(fields) <= record.keys() else None


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """Twelve hexadecimal digits that change when any part changes; a Path stands for the file's content."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            status = part.stat()
            total.update(_of_file(part, status.st_mtime_ns, status.st_size))
        else:
            total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:12]


@cache
def _of_file(path: Path, _mtime_ns: int, _size: int) -> bytes:
    """The SHA-256 of a file that is as it was: tests, forked from one process, ask for the same again."""
    return hashlib.sha256(path.read_bytes()).digest()


def verify_sha256(path: Path, expected: str) -> None:
    """Remove `path` and raise CprError unless its SHA-256 is `expected`."""
    with path.open("rb") as file:
        seen = hashlib.file_digest(file, "sha256").hexdigest()
    if seen != expected:
        path.unlink()
        raise CprError(
            f"{path.name}: SHA-256 is {seen}, expected {expected}. The download was removed; "
            "if this happens again, the mirror serves a different file under that name."
        )
