# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the host has, and programs can still have."""

from pathlib import Path


def available_mib() -> int:
    """MiB that can be used without swapping (proc(5), MemAvailable)."""
    return _mib("MemAvailable:")


def total_mib() -> int:
    """MiB that the kernel has to give in all (proc(5), MemTotal)."""
    return _mib("MemTotal:")


def _mib(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) >> 10
