# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owned which device and queue when, from what the kernel saw (observer tracefs).

A vhost device is owned from the return of VHOST_SET_OWNER to the enter of VHOST_RESET_OWNER, or to its last
close. Passthrough devices are owned by the side whose memory their DMA goes to (VFIO_IOMMU_MAP_DMA, until the
addresses are given up by VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_VADDR). So an instant at which the
kernel may have had either is in no row, and rows of two sides that overlap are two owners.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from cprtest.timeline.event import Event
from cprtest.timeline.phases import Span

Row = dict[str, Any]
"""{device, queue, owner, start, end} as in DESIGN.md; times in ns on the common clock."""

UNMAP_VADDR = 4  # VFIO_DMA_UNMAP_FLAG_VADDR, linux/vfio.h


def ownership(events: Sequence[Event]) -> list[Row]:
    """The rows that `events`, in order of time, give evidence of; sorted by device, queue and start."""
    rows: list[Row] = []
    held: dict[tuple[int, str], Row] = {}  # open file and side -> its row
    last = events[-1].t if events else 0
    resumed = next((e.t for e in events if e.actor == "target" and e.name == "RESUME"), last)
    for event in (e for e in events if e.observer == "tracefs" and "device" in e.data and "file" in e.data):
        file = int(event.data["file"])
        if _gains(event) and (file, event.actor) not in held:
            if event.name != "OWNED" and event.actor == "source" and event.t < resumed:
                _take_back(event, held)
            held[file, event.actor] = {
                "device": event.data["device"],
                "queue": event.data["queue"],
                "owner": event.actor,
                "start": events[0].t if event.name == "OWNED" else event.data["end"],
                "end": last,
            }
            rows.append(held[file, event.actor])
        elif _loses(event):
            for key in [key for key in held if key[0] == file]:
                held.pop(key)["end"] = event.t
    return sorted(rows, key=lambda row: (row["device"], row["queue"], row["start"]))


def overlaps(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pairs of rows in which both sides own the same device and queue at one instant."""
    return [
        (first, second)
        for first, second in itertools.combinations(sorted(rows, key=lambda row: row["start"]), 2)
        if (first["device"], first["queue"]) == (second["device"], second["queue"])
        and first["owner"] != second["owner"]
        and second["start"] < first["end"]
    ]


def owners_at(rows: Sequence[Mapping[str, Any]], t: int) -> dict[tuple[str, int], str]:
    """Who owns each device and queue at time `t` (ns); what nobody owns is not there."""
    return {(row["device"], row["queue"]): row["owner"] for row in rows if row["start"] <= t <= row["end"]}


def foreign_io(events: Sequence[Event], phases: Mapping[str, Span]) -> list[Event]:
    """Packets taken from or put into a tap by the side that does not run the guest.

    That is the source after the first descriptor has left, unless it took the guest back, and the target
    before it resumes the guest.
    """
    packets = [e for e in events if e.name in ("TAP_READ", "TAP_WRITE")]
    found = []
    if "handover" in phases and "rollback" not in phases:
        found += [e for e in packets if e.actor == "source" and e.t - e.err > phases["handover"].start]
    if "resume" in phases:
        found += [e for e in packets if e.actor == "target" and e.t + e.err < phases["resume"].start]
    return found


def swapped(events: Sequence[Event]) -> list[Event]:
    """Descriptors that a side took for those of another queue or device."""
    return [event for event in events if "taken_for" in event.data]


def _take_back(event: Event, held: dict[tuple[int, str], Row]) -> None:
    """The source takes back by opening it anew: what the target holds is no longer the guest's device.

    A target that failed keeps its file until it ends, owned but without a part in the guest. One that has
    resumed the guest, however, owns a device that the guest uses.
    """
    place = (event.data["device"], event.data["queue"])
    for key, row in list(held.items()):
        if key[1] == "target" and (row["device"], row["queue"]) == place:
            held.pop(key)["end"] = event.t


def _gains(event: Event) -> bool:
    return event.name == "OWNED" or (
        event.name in ("VHOST_SET_OWNER", "VFIO_IOMMU_MAP_DMA") and event.ok is True
    )


def _loses(event: Event) -> bool:
    if event.name == "VFIO_IOMMU_UNMAP_DMA":
        return event.ok is True and bool(event.data["flags"] & UNMAP_VADDR)
    return event.name == "CLOSE" or (event.name == "VHOST_RESET_OWNER" and event.ok is True)
