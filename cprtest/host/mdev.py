# SPDX-License-Identifier: GPL-2.0-or-later
"""Mediated devices: VFIO devices that a kernel driver makes up (vfio-mediated-device.rst of the kernel).

The only one here is the kernel's sample mtty, a serial card. One that is made is written into the run's
journal before, so that the next start removes what a killed test could not.
"""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from cprtest.host import kmod
from cprtest.host.runs import Run

_DEVICES = Path("/sys/bus/mdev/devices")
_MTTY = Path("/sys/devices/virtual/mtty/mtty")
_TYPE = "mdev_supported_types/mtty-1"


@contextlib.contextmanager
def mtty() -> Iterator[Path]:
    """A serial card with one port, as long as the context lasts: its directory in sysfs. Raises CprError."""
    kmod.load("mtty", _MTTY)
    name = str(uuid.uuid4())
    run = Run.start()
    run.note(mdev=name)
    (_MTTY / _TYPE / "create").write_text(name)
    try:
        yield _DEVICES / name
    finally:
        remove(name)


def remove(name: str) -> bool:
    """Remove the mediated device `name`, which no process has open; whether there was one."""
    device = _DEVICES / name
    if not device.exists():
        return False
    (device / "remove").write_text("1")
    return True
