# SPDX-License-Identifier: GPL-2.0-or-later
"""A PCIe device reports an error (AER), by the kernel's own injector: the whole way from the root port on.

Sources: struct aer_error_inj in drivers/pci/pcie/aer_inject.c, PCI_ERR_UNC_COMP_ABORT in pci_regs.h.
"""

import struct
from pathlib import Path

from cprtest.host import kmod
from cprtest.host.pci import SYSFS, PciDevice
from cprtest.limits import wait_until

_ERROR = struct.Struct(
    "=3Bx7I"
)  # bus, device, function; uncorrectable, correctable, four of a header, domain
_COMPLETER_ABORT = 0x8000
"""Not correctable, and not fatal: the link is not reset."""


def report_error(address: str) -> None:
    """The device at `address` (it has the capability AER) reports an error, and the kernel has noticed.

    Raises CprError, OSError.
    """
    before = errors(address)
    kmod.load("aer_inject", SYSFS / "module/aer_inject")
    domain, bus, place = address.split(":")
    device, function = place.split(".")
    numbers = (int(word, 16) for word in (bus, device, function))
    Path("/dev/aer_inject").write_bytes(_ERROR.pack(*numbers, _COMPLETER_ABORT, *(0,) * 5, int(domain, 16)))
    wait_until("the kernel to count the error", lambda: errors(address) > before, 5)


def errors(address: str) -> int:
    """Errors, not correctable and not fatal, that the kernel has counted of the device."""
    lines = (PciDevice(address).path / "aer_dev_nonfatal").read_text().splitlines()
    return int(lines[-1].split()[-1])
