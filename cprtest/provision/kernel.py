# SPDX-License-Identifier: GPL-2.0-or-later
"""The newest stock kernel of the suite, unpacked without root.

CACHE/kernel/RELEASE/{vmlinuz,config,modules/lib/modules/RELEASE}.
"""

import shutil

from cprtest.errors import CprError, NotInstalled
from cprtest.paths import cache_dir
from cprtest.provision import apt, installed, progress
from cprtest.provision.files import new_directory, read_record, remove_scratch, write_record
from cprtest.provision.processes import run_logged


def fetch() -> None:
    """Fetch and unpack the kernel that `linux-image-amd64` stands for today."""
    image = next(
        (name for name in apt.dependencies(installed.KERNEL_PACKAGE) if name.startswith("linux-image-")),
        installed.KERNEL_PACKAGE,
    )
    deb = apt.fetch_alone(image)
    release = image.removeprefix("linux-image-")
    record = {"release": release, "version": deb.version}
    final = cache_dir() / "kernel" / release
    if record == read_record(installed.kernel_record()) and final.is_dir():
        return  # it may be in use: do not lay it anew
    remove_scratch(final.parent)
    with progress.task(f"kernel {release}: unpack"), new_directory(final) as kernel:
        tree = kernel / "tree"
        apt.extract([deb], tree)
        for name in ("vmlinuz", "config"):
            (tree / "boot" / f"{name}-{release}").rename(kernel / name)
        modules = kernel / "modules" / "lib" / "modules" / release
        modules.parent.mkdir(parents=True)
        (tree / "usr" / "lib" / "modules" / release).rename(modules)
        shutil.rmtree(tree)
        depmod = shutil.which("depmod", path="/usr/sbin:/sbin")  # not in an ordinary user's PATH
        if depmod is None:
            raise CprError("depmod is missing: install the Debian package kmod.")
        log = cache_dir() / "logs" / "depmod.log"
        run_logged([depmod, "-b", kernel / "modules", release], log, "depmod")
    write_record(installed.kernel_record(), record)


def ensure(refresh: bool = False) -> None:
    """Fetch a kernel unless there is one; with `refresh` the newest one, whatever there is."""
    if not refresh:
        try:
            installed.kernel()
            return
        except NotInstalled:
            pass
    fetch()
