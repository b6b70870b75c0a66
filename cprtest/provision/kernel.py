# SPDX-License-Identifier: GPL-2.0-or-later
"""The newest stock kernel of a suite, unpacked without root.

CACHE/kernel/RELEASE/{vmlinuz,config,modules/lib/modules/RELEASE}.
"""

import shutil

from cprtest.errors import CprError, NotInstalled
from cprtest.paths import cache_dir
from cprtest.provision import apt, installed, progress
from cprtest.provision.files import new_directory, read_record, remove_scratch, write_record
from cprtest.provision.processes import run_logged


def fetch(suite: str) -> None:
    """Fetch and unpack the kernel that `linux-image-amd64` of `suite` stands for today."""
    needed = apt.dependencies(installed.KERNEL_PACKAGE, suite)
    image = next((name for name in needed if name.startswith("linux-image-")), installed.KERNEL_PACKAGE)
    release = image.removeprefix("linux-image-")
    # Newer kernels come in parts, each a package named for the release.
    parts = [name for name in apt.dependencies(image, suite) if name.endswith(f"-{release}")]
    deb, *more = (apt.fetch_alone(name, suite) for name in (image, *parts))
    record = {"release": release, "version": deb.version}
    final = cache_dir() / "kernel" / release
    if record == read_record(installed.kernel_record(suite)) and final.is_dir():
        return  # it may be in use: do not lay it anew
    remove_scratch(final.parent)
    with progress.task(f"kernel {release}: unpack"), new_directory(final) as kernel:
        tree = kernel / "tree"
        apt.extract([deb, *more], tree)
        unpacked = tree / "usr" / "lib" / "modules" / release
        for name in ("vmlinuz", "config"):
            beside = unpacked / name  # since 7
            (beside if beside.exists() else tree / "boot" / f"{name}-{release}").rename(kernel / name)
        modules = kernel / "modules" / "lib" / "modules" / release
        modules.parent.mkdir(parents=True)
        unpacked.rename(modules)
        shutil.rmtree(tree)
        depmod = shutil.which("depmod", path="/usr/sbin:/sbin")  # not in an ordinary user's PATH
        if depmod is None:
            raise CprError("depmod is missing: install the Debian package kmod.")
        log = cache_dir() / "logs" / "depmod.log"
        run_logged([depmod, "-b", kernel / "modules", release], log, "depmod")
    write_record(installed.kernel_record(suite), record)


def ensure(refresh: bool = False, suite: str = installed.SUITE) -> None:
    """Fetch a kernel unless there is one; with `refresh` the newest one, whatever there is."""
    if not refresh:
        try:
            installed.kernel(suite)
            return
        except NotInstalled:
            pass
    fetch(suite)
