# SPDX-License-Identifier: GPL-2.0-or-later
"""Small C programs of ours: assets/guest/*.c are commands in the guest, assets/host/*.c run on the host.

Each is one file, and headers beside it that it may share with others, linked statically, so that it runs
whatever C library is there. It is compiled once for its sources and flags: CACHE/programs/NAME-DIGEST.
Set-up compiles them all. Needs the standard library only.
"""

import subprocess
import tempfile
from pathlib import Path

from cprtest.errors import CprError
from cprtest.paths import ASSETS, cache_dir
from cprtest.provision.files import digest

COMPILER = "gcc"
FLAGS = ("-std=gnu11", "-O2", "-static", "-s", "-pthread", "-Wall", "-Wextra")


def sources(side: str) -> list[Path]:
    """The C files of a side, `guest` or `host`."""
    return sorted((ASSETS / side).glob("*.c"))


def path(source: Path) -> Path:
    """Where the program made from `source` is, or will be."""
    headers = sorted(source.parent.glob("*.h"))
    return cache_dir() / "programs" / f"{source.stem}-{digest([source, *headers, ' '.join(FLAGS)])}"


def compiled(source: Path) -> Path:
    """The program made from `source`, which is compiled if need be. Raises CprError with gcc's words."""
    final = path(source)
    if not final.exists():
        final.parent.mkdir(exist_ok=True)
        # Two that compile at the same time each make a whole file, and the same one.
        with tempfile.TemporaryDirectory(prefix=".", dir=final.parent) as scratch:
            made = Path(scratch, final.name)
            _run([COMPILER, *FLAGS, "-o", str(made), str(source)])
            made.replace(final)
    return final


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CprError(
            f"{command[0]}, which compiles {command[-1]}, is missing: run scripts/setup."
        ) from None
    if done.returncode:
        raise CprError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def host_program(name: str) -> Path:
    """The program assets/host/NAME.c, to run on the host. Raises CprError."""
    return compiled(ASSETS / "host" / f"{name}.c")


def missing() -> list[Path]:
    """Sources of the host's programs that are not compiled yet; the guest's are looked at with its image."""
    return [source for source in sources("host") if not path(source).exists()]
