# SPDX-License-Identifier: GPL-2.0-or-later
"""Python for the lab: interpreter's library and venv as read-only erofs images, kept in CACHE/lab.

Python opens hundreds of small files before it does anything. Over 9p each costs several round trips,
each of them a few exits of an emulated machine; from a block device they come out of readahead.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError, NotInstalled
from cprtest.provision.files import digest, locked

KEEP_DAYS = 1
"""Days after its last use that an image is kept. Checkouts share the cache, each with a venv of its own."""


def python_images() -> list[tuple[str, Path, Path]]:
    """Serial number, image and the directory it stands for; builds what is missing or stale (seconds).

    Safe when two labs start at once. Raises NotInstalled without a venv, CprError if an image cannot be made.
    """
    library, venv = _library(), paths.VENV / "lib"
    stamps = [*venv.glob("python3*/site-packages"), paths.VENV / "provision.json"]
    return [
        ("library", _image("library", library, [library]), library),
        ("venv", _image("venv", venv, stamps), venv),
    ]


def _library() -> Path:
    """The standard library of the venv's interpreter, as its pyvenv.cfg tells (PEP 405: home, version)."""
    try:
        lines = (paths.VENV / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise NotInstalled("The venv is not there yet: run `scripts/setup`.") from error
    config = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    version = ".".join(config["version"].split(".")[:2])
    base = (Path(config["home"]) / f"python{version}").resolve().parent.parent
    library = base / "lib" / f"python{version}"
    if not (library / "os.py").exists():
        raise CprError(f"{library} is not the library of the Python that {paths.VENV} was made with.")
    return library


def _image(name: str, directory: Path, stamps: list[Path]) -> Path:
    seen = [f"{path} {path.stat().st_mtime_ns}" for path in stamps if path.exists()]
    store = paths.cache_dir() / "lab"
    image = store / f"{name}-{digest([str(directory), *seen])}.erofs"
    if image.exists():
        os.utime(image)
        return image
    store.mkdir(exist_ok=True)
    with locked("lab/images"):
        if not image.exists():
            _prune(store)
            _make(directory, image)
    return image


def _make(directory: Path, image: Path) -> None:
    """Uncompressed: the host's page cache holds it, and decompressing would cost emulated CPU time.

    Of the library, what the venv hides (site-packages) and the interpreter's own tests are left out.
    """
    program = shutil.which("mkfs.erofs", path="/usr/bin:/usr/sbin:/sbin")
    if program is None:
        raise CprError("mkfs.erofs is missing: install the Debian package erofs-utils.")
    handle, scratch = tempfile.mkstemp(prefix=f".{image.name}.", dir=image.parent)
    os.close(handle)
    without = ["--exclude-path=site-packages", "--exclude-path=test"]
    argv = [program, "--quiet", *without, scratch, str(directory)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CprError(f"mkfs.erofs could not make an image of {directory}: {done.stderr.strip()}")
        Path(scratch).rename(image)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _prune(store: Path) -> None:
    """Remove images not used for long, and what a killed build left. A running lab keeps its image open."""
    old = time.time() - KEEP_DAYS * 86400
    for path in [*store.glob("*.erofs"), *store.glob(".*.erofs.*")]:
        if path.name.startswith(".") or path.stat().st_mtime < old:
            path.unlink(missing_ok=True)
