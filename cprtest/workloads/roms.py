# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that the guest only reads, the firmware and option ROMs, is on the target what it was on the source.

It is memory of QEMU's with a descriptor that is handed over, and nobody sends it: a target that fills it
from its own files, which may be another version's, gives the guest something else.
"""

from cprtest.guest.guest import Guest
from cprtest.workloads.unchanged import assert_unchanged

FIRMWARE = 0xFFFC0000
"""Where SeaBIOS's 256 KiB begin, up to 4 GiB (QEMU, hw/i386/x86-common.c: x86_bios_rom_init)."""

_EACH = 1024  # bytes; devmem reads one word at a time

_FIRMWARE = f"for n in $(seq 0 255); do devmem $(({FIRMWARE:#x} + n * {_EACH})) 64; done"
_OPTION_ROMS = (
    "for rom in /sys/bus/pci/devices/*/rom; do "
    'echo 1 >"$rom"; echo "$rom" $(wc -c <"$rom") $(sha1sum <"$rom"); echo 0 >"$rom"; done'
)


class Roms:
    """What the guest reads there when this is made; `check` compares.

    Of the firmware it is eight bytes in each KiB, of option ROMs (a device must have one) all.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._before = self._read()

    @property
    def option_roms(self) -> int:
        """How many there are."""
        return sum(name.startswith("option ROM") for name in self._before)

    def check(self) -> None:
        """Raises Damage naming every place that holds something else."""
        assert_unchanged(self._before, self._read())

    def _read(self) -> dict[str, str]:
        words = self._guest.run(_FIRMWARE).split()
        firmware = {f"firmware at {FIRMWARE + n * _EACH:#x}": word for n, word in enumerate(words)}
        lines = (line.split() for line in self._guest.run(_OPTION_ROMS).splitlines())
        return firmware | {
            f"option ROM of {path.split('/')[-2]}": f"{size} bytes, SHA-1 {digest}"
            for path, size, digest, *_ in lines
        }
