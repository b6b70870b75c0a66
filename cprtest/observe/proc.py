# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells about a QEMU process."""

import re
from collections import Counter
from pathlib import Path

_KINDS = ("socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/")


def descriptors(pid: int) -> Counter[str]:
    """How many open descriptors of each kind the process has: socket, /memfd:NAME, anon_inode:[eventfd] ...

    Images and logs are left out, and numbers that differ from process to process: socket:[1234] is a socket.
    """
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith(_KINDS):
            found[re.sub(r":\[\d+\]$|:\d+$", "", target)] += 1
    return found
