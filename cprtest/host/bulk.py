# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of a device bound to vfio-bulk (assets/vfio-bulk): its state, and what became of it."""

from dataclasses import dataclass
from pathlib import Path

from cprtest.errors import CprError
from cprtest.host.pci import VFIO_BULK, PciDevice
from cprtest.host.vfio import load

_PARAMETERS = Path("/sys/module/vfio_bulk/parameters")


@dataclass(frozen=True)
class Arc:
    """One change of the device's state. `t`: ns, CLOCK_MONOTONIC; process: who asked; error: errno, or 0."""

    t: int
    process: int
    before: str
    after: str
    error: int


def supports(*, precopy: bool = True, p2p: bool = True) -> None:
    """What devices that are bound from now on can do beyond STOP_COPY."""
    load(VFIO_BULK)
    for name, on in {"precopy": precopy, "p2p": p2p}.items():
        (_PARAMETERS / name).write_text("Y" if on else "N")


class Bulk:
    """The device at a PCI address. States are called as in include/uapi/linux/vfio.h."""

    def __init__(self, address: str) -> None:
        self._directory = PciDevice(address).path / "bulk"

    def resize(self, mib: int) -> None:
        """Give it a state of so many MiB, 1 to 4096."""
        self._set("size", mib << 20)

    def fill(self, seed: int) -> str:
        """Fill the state with a pattern, different for each seed; returns its fingerprint."""
        self._set("seed", seed)
        return self.fingerprint()

    def slow_down(self, *, rate_mib: int = 0, latency_us: int = 0) -> None:
        """rate_mib: of state a second, 0: as fast as it can. latency_us: for each arc, up to 10 s."""
        self._set("rate", rate_mib << 20)
        self._set("latency", latency_us)

    def plant(self, fault: str) -> None:
        """A fault that strikes once, KIND:STATE. KIND: refuse, break, spoil or flip (README.md there)."""
        self._set("fault", fault)

    @property
    def fault(self) -> str:
        """The fault that has not struck yet, or "none"."""
        return self._get("fault")

    @property
    def state(self) -> str:
        """Where it is now."""
        return self._get("state")

    def fingerprint(self) -> str:
        """A check sum of the state; a process must have the device open."""
        return self._get("fingerprint")

    def arcs(self) -> list[Arc]:
        """The last 32 changes of state since it was opened."""
        fields = (line.split() for line in self._get("arcs").splitlines())
        return [Arc(int(t), int(who), before, after, int(error)) for t, who, before, after, error in fields]

    def _get(self, name: str) -> str:
        return (self._directory / name).read_text().strip()

    def _set(self, name: str, value: object) -> None:
        try:
            (self._directory / name).write_text(f"{value}\n")
        except OSError as error:
            raise CprError(f"vfio-bulk does not take {value} as {name}: {error.strerror}") from error
