# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of a passthrough device that a reset clears: on the target they hold what they held before.

They are read through the device's windows, behind its driver's back (the guest's kernel has iomem=relaxed,
docs/guest.md): so it is the device that answers, and not what QEMU or the kernel remember of it. What is in
configuration space beside them, the kernel may have restored after a reset.

Sources: NVM Express Base Specification 2.0, 3.1.3; virtio 1.2, 4.1.4.3; Intel 82576 and 82574 datasheets
(names as in igbvf/regs.h and e1000e/regs.h of the kernel); docs/specs/ivshmem-spec.rst of QEMU.
"""

from dataclasses import dataclass

from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.machine.plugged import Passthrough
from cprtest.workloads.config_space import MSIX, PCI_EXPRESS, VENDOR, ConfigSpace
from cprtest.workloads.unchanged import assert_unchanged

_VIRTIO_COMMON = 1  # cfg_type of the capability that tells where the common configuration is


@dataclass(frozen=True)
class Register:
    """A register at `offset` in window `bar`. bits: 8, 16 or 32."""

    name: str
    offset: int
    bar: int = 0
    bits: int = 32


# A queue of Intel's NICs: where it is, how long it is, and its switch.
_RINGS = tuple(
    Register(name, queue + offset)
    for way, queue in (("R", 0x2800), ("T", 0x3800))
    for name, offset in ((f"{way}DBAL", 0), (f"{way}DBAH", 4), (f"{way}DLEN", 8), (f"{way}XDCTL", 0x28))
)

_REGISTERS = {
    "nvme": (
        Register("CC", 0x14),
        Register("CSTS", 0x1C),
        Register("AQA", 0x24),
        Register("ASQ", 0x28),
        Register("ACQ", 0x30),
    ),
    "igb-vf": (Register("VTIVAR", 0x1700), Register("VTIVAR_MISC", 0x1740), *_RINGS),
    "e1000e": (Register("RCTL", 0x100), Register("TCTL", 0x400), Register("IVAR", 0xE4), *_RINGS),
    "ivshmem": (Register("IntrMask", 0),),
}
"""By role in the host file; those of virtio are where a capability says."""


class Registers:
    """What the registers of `device`, which is in use, hold when this is made; `check` compares."""

    def __init__(self, guest: Guest, device: Passthrough) -> None:
        self._guest = guest
        self._device = device
        self._before = self._read()
        if not any(self._windows().values()):
            raise AssertionError(f"{device.id} has nothing in its registers that a reset would clear")

    def check(self) -> None:
        """Raises Damage naming every register that holds something else."""
        assert_unchanged(self._before, self._read(), f"{self._device.id}: ")

    def _read(self) -> dict[str, str]:
        return {name: f"{held:#x}" for name, held in (self._windows() | self._settings()).items()}

    def _windows(self) -> dict[str, int]:
        space = ConfigSpace(self._guest, self._device)
        registers = _registers(self._device, space)
        reads = [f"devmem {space.bar(one.bar) + one.offset:#x} {one.bits}" for one in registers]
        seen = self._guest.run(" && ".join(reads)).split()
        return {one.name: int(word, 16) for one, word in zip(registers, seen, strict=True)}

    def _settings(self) -> dict[str, int]:
        """What a reset clears in configuration space."""
        space = ConfigSpace(self._guest, self._device)
        held = {"command": space.word(4), "cache line size": space.word(0xC, 1)}
        held |= {f"base address {n}": space.word(0x10 + 4 * n, 4) for n in range(6)}
        held |= {f"MSI-X control at {at:#x}": space.word(at + 2) for at in space.capabilities(MSIX)}
        return held | {
            f"device control at {at:#x}": space.word(at + 8) for at in space.capabilities(PCI_EXPRESS)
        }


def _registers(device: Passthrough, space: ConfigSpace) -> tuple[Register, ...]:
    """Where the registers of a device are. Raises CprError for one that nobody knows."""
    if device.role in _REGISTERS:
        return _REGISTERS[device.role]
    common = [at for at in space.capabilities(VENDOR) if space.word(at + 3, 1) == _VIRTIO_COMMON]
    if not common:
        raise CprError(f"Nobody knows which registers of {device.role} a reset clears.")
    bar, offset = space.word(common[0] + 4, 1), space.word(common[0] + 8, 4)
    return (
        Register("msix_config", offset + 0x10, bar, 16),
        Register("device_status", offset + 0x14, bar, 8),
    )
