# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory programs can still have."""

from pathlib import Path


def available_mib() -> int:
    """MiB that can be used without swapping (proc(5), MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) >> 10
