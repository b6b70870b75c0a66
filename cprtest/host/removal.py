# SPDX-License-Identifier: GPL-2.0-or-later
"""A PCI device is taken off the host's bus while a QEMU has it, as by a hot-unplug, and put back.

The kernel asks the device's user to let go of it (the request interrupt of vfio-pci), again every ten
seconds, and waits until that one does: so another process takes the device away. Sources:
Documentation/ABI/testing/sysfs-bus-pci, vfio_unregister_group_dev() in drivers/vfio/vfio_main.c.
"""

import contextlib
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from cprtest.errors import CprError
from cprtest.host.pci import PciDevice
from cprtest.limits import TimeLimit, wait_until

_WAITS = "vfio_unregister_group_dev"
"""The function of the kernel in which it waits."""


class Removal:
    """A device that can be taken away and put back, again and again; it is back when the context ends.

    For a host that nobody else needs.
    """

    def __init__(self, device: PciDevice) -> None:
        self._device = device
        self._remover: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Take the device away. Returns when the kernel waits for its user, which has been asked once."""
        self._remover = subprocess.Popen(["sh", "-c", f"echo 1 >{self._device.path}/remove"])
        kernel = Path(f"/proc/{self._remover.pid}/wchan")
        wait_until("the kernel to wait for the device's user", lambda: _WAITS in kernel.read_text(), 5)

    def ends(self) -> bool:
        """Whether the device goes, now that its user should have let go of it."""
        with contextlib.suppress(TimeLimit):
            wait_until(f"{self._device.address} to be let go of", self._gone, 3)
        return self._gone()

    def put_back(self) -> None:
        """Put it back on the bus, without a driver, when nobody has it. Nothing if it was not taken."""
        if self._remover is None:
            return
        if not self.ends():
            raise CprError(f"{self._device.address} is on its way off the bus, and somebody still has it")
        self._remover = None
        (self._device.sysfs / "bus/pci/rescan").write_text("1")
        wait_until(f"{self._device.address} to be back", self._device.path.exists, 5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.put_back()

    def _gone(self) -> bool:
        return (
            self._remover is not None and self._remover.poll() is not None and not self._device.path.exists()
        )
