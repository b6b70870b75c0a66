# SPDX-License-Identifier: GPL-2.0-or-later
"""Which device and queue of the guest an open file serves, from the order in which QEMU uses its files.

A QEMU opens what a queue needs queue by queue, device by device, in the order of its command line. A file
that travelled has its number already, and stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cprtest.machine.devices import queues

if TYPE_CHECKING:
    from cprtest.machine.process import Machine

_Place = tuple[str, int]


class Places:
    """Device (QEMU's id) and queue by the path that was opened and the number of the open file."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _Place | None] = {}
        self._used: dict[tuple[int, str], list[int]] = {}

    def about(self, token: int, machine: Machine | None, path: str, number: int) -> dict[str, Any]:
        """The part of an event's data that says which file QEMU number `token` used."""
        used = self._used.setdefault((token, path), [])
        if number not in used:
            waiting = _places(machine, path) if machine else []
            if (path, number) not in self._known and len(used) < len(waiting):
                self._known[path, number] = waiting[len(used)]
            used.append(number)
        place = self._known.get((path, number))
        where = {"device": place[0], "queue": place[1]} if place else {"device": path}
        return {**where, "path": path, "nr": number}


def _places(machine: Machine, path: str) -> list[_Place]:
    if path == "/dev/vhost-vsock":
        # Plugged later, so not in the spec of the first QEMU; there is one at most.
        return [("vsock0", 0)]
    if path == "/dev/vfio/vfio":
        return [("vfio", 0)]
    if path in ("/dev/vhost-net", "/dev/net/tun"):
        return queues(machine.spec.devices, vhost=path == "/dev/vhost-net")
    return []
