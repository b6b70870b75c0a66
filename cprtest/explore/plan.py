# SPDX-License-Identifier: GPL-2.0-or-later
"""A plan: a guest, its load, and transfers one after the other, each with a fault. Its text repeats it.

2vcpus,tap,disk,echo/cut:512/paused-cancel:30/clean
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.errors import UsageError
from cprtest.faults import cpr_channel as cpr
from cprtest.faults import main_channel as main
from cprtest.faults.fault import Fault
from cprtest.faults.monitor import Command
from cprtest.faults.process import Hung, HungAndBack, Killed, Paused
from cprtest.faults.stations import Acquired, Action, At, Committed, Handover, Loaded, Station, Streaming
from cprtest.faults.target import MainRefused

VCPUS = ("1vcpu", "2vcpus")
NETS = ("", "tap", "vhost")
LOADS = {"echo": ("tap", "vhost"), "journal": ("disk",), "memory": (), "cpu": ()}
"""The loads, and of which devices each needs one."""
PLACES = 1000

CANCELLED = Expected(reported=("cancelled",))
COMPLETED = Expected("completed", ("completed",))
IN_DOUBT = Expected("in-doubt", error="the target may be running it")
_EARLY = (Handover, Acquired, Streaming)


@dataclass(frozen=True)
class Lengths:
    """Bytes in a transfer of the plan's guest without a fault: of device state, and of cpr state."""

    main: int
    cpr: int


Kind = Callable[[int, Lengths], Case]
"""Makes a case of a place (0 to PLACES - 1: how far into the transfer)."""


def _byte(place: int, length: int) -> int:
    # Streams of one guest differ by some bytes: the last ones may not come.
    return place * (length * 97 // 100) // PLACES


def _station(place: int, stations: tuple[type[Station], ...] = _EARLY) -> Station:
    return stations[place * len(stations) // PLACES]()


def _at(action: Callable[[], Action], expected: Expected) -> Kind:
    return lambda place, _: Case(At(_station(place), action()), expected)


def _one(fault: Callable[[], Fault], expected: Expected) -> Kind:
    return lambda _place, _: Case(fault(), expected)


_ROLLED_BACK = Expected()
KINDS: dict[str, Kind] = {
    "clean": _one(main.Recorded, COMPLETED),
    "cut": lambda place, of: Case(main.Cut(_byte(place, of.main))),
    "stall": lambda place, of: Case(main.Stalled(_byte(place, of.main)), CANCELLED),
    "slow": lambda place, _: Case(main.Slow(500 + 8 * place, 0.001), COMPLETED),
    "way-back-cut": lambda place, _: Case(main.Cut(_byte(place, 15), back=True)),
    "cpr-cut": lambda place, of: Case(cpr.Cut(_byte(place, of.cpr))),
    "cpr-slow": lambda place, _: Case(cpr.Slow(1 + place // 10, 0.001), COMPLETED),
    "refused": _one(MainRefused, _ROLLED_BACK),
    "cpr-refused": _one(cpr.Refused, _ROLLED_BACK),
    "kill": _at(lambda: Killed("target"), _ROLLED_BACK),
    "stand": _at(lambda: Paused("target"), COMPLETED),
    "source-stand": _at(lambda: Paused("source"), COMPLETED),
    "cancel": _at(lambda: Command("migrate_cancel"), CANCELLED),
    "hang": _at(Hung, CANCELLED),
    "hang-and-back": _at(HungAndBack, CANCELLED),
    "quit": lambda place, _: Case(
        At(_station(place, (Acquired, Streaming)), Command("quit", side="target")), _ROLLED_BACK
    ),
    "kill-loaded": _one(lambda: At(Loaded(), Killed("target")), IN_DOUBT),
    "cancel-loaded": _one(lambda: At(Loaded(), Command("migrate_cancel")), CANCELLED),
    "cancel-committed": _one(lambda: At(Committed(), Command("migrate_cancel")), COMPLETED),
}
"""The faults, by name."""
NEVER_PAUSED = ("kill-loaded",)
"""Where the user has to start the guest again, so that it is not as it was before."""


@dataclass(frozen=True)
class Step:
    """One transfer. kind: one of KINDS. place: how far into it the fault strikes. paused: the guest is."""

    kind: str
    place: int = 0
    paused: bool = False

    def __str__(self) -> str:
        return f"{'paused-' if self.paused else ''}{self.kind}:{self.place}"

    @classmethod
    def parse(cls, text: str) -> Step:
        """The step that `text` is of. Raises UsageError."""
        word, _, place = text.partition(":")
        kind = word.removeprefix("paused-")
        if kind not in KINDS:
            raise UsageError(f"There is no fault {kind!r}; there are {', '.join(KINDS)}.")
        if not (place or "0").isdecimal() or int(place or 0) >= PLACES:
            raise UsageError(f"{text}: after the colon stands a number from 0 to {PLACES - 1}.")
        return cls(kind, int(place or 0), word != kind)


@dataclass(frozen=True)
class Plan:
    """A guest by its words (vcpus, network, disk, loads) and the transfers it is put through."""

    guest: tuple[str, ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "/".join([",".join(self.guest), *map(str, self.steps)])

    @property
    def net(self) -> str:
        """What serves its NIC: one of NETS."""
        return next((word for word in self.guest if word in NETS), "")

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that `text` is of. Raises UsageError."""
        guest, *steps = text.split("/")
        words = tuple(guest.split(","))
        known = [*VCPUS, *filter(None, NETS), "disk", *LOADS]
        if unknown := [word for word in words if word not in known]:
            raise UsageError(f"A guest has no {unknown[0]!r}; it can have {', '.join(known)}.")
        for load, devices in LOADS.items():
            if load in words and devices and not set(devices) & set(words):
                raise UsageError(f"Load {load} needs {' or '.join(devices)} in the guest.")
        if not steps:
            raise UsageError(f"{text!r} has no transfer: GUEST/FAULT:PLACE/...")
        return cls(words, tuple(Step.parse(step) for step in steps))
