# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc/interrupts counts, of this host and, given its lines, of a guest."""

from itertools import takewhile
from pathlib import Path


def raised(line: str) -> int:
    """What a line of /proc/interrupts counts, all CPUs together: the numbers before the controller's name."""
    words = line.partition(":")[2].split()
    return sum(int(word) for word in takewhile(str.isdigit, words))


def msix_counts(address: str) -> list[int]:
    """What each MSI-X vector that the user of a bound device has set up has raised on this host.

    The vectors' names are from drivers/vfio/pci/vfio_pci_intrs.c.
    """
    table = Path("/proc/interrupts").read_text().splitlines()
    return [raised(line) for line in table if "vfio-msix[" in line and f"({address})" in line]
