# SPDX-License-Identifier: GPL-2.0-or-later
"""passt, the other end of vhost-user NICs, from Debian's SUITE: CACHE/passt/VERSION, with its own C library.

The host's passt may be older than its vhost-user mode, and the host's C library older than passt wants.
"""

import shutil
import tempfile
from pathlib import Path

from cprtest.errors import NotInstalled
from cprtest.paths import cache_dir
from cprtest.provision import apt, installed, progress
from cprtest.provision.files import new_directory, remove_scratch, write_record

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_FILES = ("usr/bin/passt", f"{_LIBRARIES}/ld-linux-x86-64.so.2", f"{_LIBRARIES}/libc.so.6")


def ensure(refresh: bool) -> None:
    """Fetch passt unless it is there; `refresh`: look for a newer one. Under the set-up's lock only."""
    if not refresh:
        try:
            installed.passt()
            return
        except NotInstalled:
            pass
    base = cache_dir() / "passt"
    base.mkdir(exist_ok=True)
    remove_scratch(base)
    with progress.task("passt"), tempfile.TemporaryDirectory(prefix=".", dir=base) as scratch:
        version = apt.fetch_tree(["passt"], Path(scratch))["passt"]
        if not (base / version).is_dir():
            with new_directory(base / version) as final:
                for name in _FILES:
                    shutil.copy(Path(scratch, name), final)
    write_record(installed.passt_record(), {"version": version, "versions": {"passt": version}})
