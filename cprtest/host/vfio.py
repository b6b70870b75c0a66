# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking listed devices from their drivers for vfio-pci, or a variant of it, and giving them back.

Before anything is taken it is written into the run's journal, so that the next start gives back
what a killed test could not (runs.py). Source: Documentation/ABI/testing/sysfs-bus-pci
(driver_override) and Documentation/driver-api/vfio.rst.
"""

import contextlib
import fcntl
from collections.abc import Collection, Iterator
from pathlib import Path

from cprtest.errors import CprError
from cprtest.host import kmod
from cprtest.host.hostfile import HostDevice, allowed_devices
from cprtest.host.pci import SYSFS, VFIO_DRIVERS, VFIO_PCI, PciDevice
from cprtest.host.runs import Run, runs_dir
from cprtest.host.vfio_safety import refusals
from cprtest.limits import wait_until


class Refused(CprError):
    """A device is not taken from the host: the text says why."""


@contextlib.contextmanager
def assigned(name: str, driver: str = VFIO_PCI) -> Iterator[HostDevice]:
    """A device of that role or address from the host file, bound to `driver` as long as the context lasts.

    Two tests that want the same device have it one after the other. Raises Refused, and CprError when there
    is no such device or it is still in use at the end.
    """
    devices = [device for device in allowed_devices() if name in (device.role, device.address)]
    if not devices:
        raise CprError(f"No device with the role or address {name} is in the host file.")
    with _one_free(devices) as device, bound(device.address, driver):
        yield device


@contextlib.contextmanager
def bound(address: str, driver: str = VFIO_PCI) -> Iterator[PciDevice]:
    """The device bound to `driver`, one of VFIO_DRIVERS, and given back to the one it had. Raises Refused."""
    device = PciDevice(address)
    run = Run.start()
    before = bind(device, run, driver)
    try:
        yield device
    finally:
        give_back(device, before)
        run.note(returned=address)


def largest_bar(names: Collection[str]) -> int:
    """Bytes of the largest BAR of all devices with one of these roles or addresses; 0 for none."""
    listed = (d.address for d in allowed_devices() if d.role in names or d.address in names)
    return max((PciDevice(address).largest_bar for address in listed), default=0)


def bind(device: PciDevice, run: Run, driver: str = VFIO_PCI) -> str | None:
    """Bind `device` to `driver`, after writing that into the journal of `run`. Returns the driver it had.

    Raises Refused, one sentence a reason, and CprError when the kernel does not do it.
    """
    against = refusals(device, {listed.address for listed in allowed_devices()})
    if against:
        raise Refused(" ".join(against))
    before = device.driver
    run.note(bound=device.address, driver=before)
    load(driver, device.sysfs)
    _write(device.path / "driver_override", driver)
    if before not in (None, driver):
        _write(device.path / "driver/unbind", device.address)
    if before != driver:
        _write(device.sysfs / "bus/pci/drivers_probe", device.address)
    if device.driver != driver:
        raise CprError(f"The kernel did not bind {device.address} to {driver}; dmesg tells why.")
    return before


def give_back(device: PciDevice, driver: str | None) -> None:
    """Return `device` from user space to `driver`, or to none. Nothing happens if it is there already.

    Raises CprError while a process has the device open: the kernel would block until it lets go.
    """
    if not device.path.exists():
        return
    if device.driver in VFIO_DRIVERS and device.driver != driver:
        _await_unused(device)
        _write(device.path / "driver/unbind", device.address)
    _write(device.path / "driver_override", driver if driver in VFIO_DRIVERS else "\n")
    if driver is not None and device.driver is None:
        load(driver, device.sysfs)
        _write(device.sysfs / "bus/pci/drivers" / driver / "bind", device.address)


def give_back_all(bound_before: dict[str, str | None]) -> list[str]:
    """Undo what a journal tells of: devices back to their drivers.

    Returns what was done, without full stops. Raises CprError.
    """
    said = []
    for address, driver in bound_before.items():
        device = PciDevice(address)
        if device.driver in VFIO_DRIVERS and device.driver != driver:
            said.append(f"Gave {address} back to {driver or 'no driver'}")
        give_back(device, driver)
    return said


def load(driver: str, sysfs: Path = SYSFS) -> None:
    """Load the module of a PCI driver unless it is there. Raises CprError."""
    kmod.load(driver, sysfs / "bus/pci/drivers" / driver)


@contextlib.contextmanager
def _one_free(devices: list[HostDevice]) -> Iterator[HostDevice]:
    """The first of `devices` that no other test has; waits for the first when all are taken."""
    for device, how in [(device, fcntl.LOCK_NB) for device in devices] + [(devices[0], 0)]:
        with (runs_dir() / f"{device.address}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | how)
            except BlockingIOError:
                continue
            yield device
            return


def _await_unused(device: PciDevice) -> None:
    """Wait until no process has the device's VFIO group open; a QEMU that was killed takes a moment."""
    node = f"/dev/vfio/{device.iommu_group}"

    def users() -> list[str]:
        return [path.parts[2] for path in Path("/proc").glob("[0-9]*/fd/*") if _target(path) == node]

    wait_until(
        f"{device.address} to be let go of, so that it can be given back",
        lambda: not users(),
        5,
        lambda: f"processes {', '.join(users())} have {node} open",
    )


def _target(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:
        return None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except PermissionError as error:
        raise CprError(f"Writing {path} needs root. Run as root, or in the lab (--lane lab).") from error
    except OSError as error:
        raise CprError(
            f"Writing {text.strip()!r} to {path} failed: {error.strerror}; dmesg may tell why."
        ) from error
