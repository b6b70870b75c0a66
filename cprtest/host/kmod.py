# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading kernel modules: the kernel's own by name, those that set-up built from their file."""

import subprocess
from pathlib import Path

from cprtest.errors import CprError
from cprtest.host.programs import program
from cprtest.provision.installed import MODULES, SAMPLES, module

_DEPENDS = {"vfio-bulk": "vfio-pci-core", "mtty": "mdev"}
"""insmod does not look for what a module needs."""


def load(name: str, sign: Path) -> None:
    """Load the module `name` unless `sign` is there, a directory that it makes in sysfs. Raises CprError."""
    if sign.is_dir():
        return
    if name in (*MODULES, *SAMPLES):
        subprocess.run([program("modprobe"), _DEPENDS[name]], check=False, capture_output=True)
        command = [program("insmod"), str(module(name))]
    else:
        command = [program("modprobe"), name]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if not sign.is_dir():
        said = done.stderr.strip().rstrip(".")
        raise CprError(f"`{' '.join(command)}` did not make {sign} ({said}). Run in the lab instead.")
