# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the host's programs."""

import os
import shutil

from cprtest.errors import CprError

_PACKAGES = {"ip": "iproute2", "mkfs.erofs": "erofs-utils", "modprobe": "kmod"}


def program(name: str) -> str:
    """The path of a system program. Raises CprError naming the Debian package that it is in.

    Debian keeps some in directories that are not on an ordinary user's PATH.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        package = _PACKAGES.get(name, "util-linux")
        raise CprError(f"The command {name} is missing. Install the Debian package {package}.")
    return found
