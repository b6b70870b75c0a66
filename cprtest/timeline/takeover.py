# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a guest's devices went from the source to the target as they should, by the kernel's evidence."""

from collections.abc import Collection, Sequence

from cprtest.timeline.event import Event
from cprtest.timeline.order import foreign_packets, tag
from cprtest.timeline.ownership import owners_at, swapped
from cprtest.timeline.timeline import Timeline

Place = tuple[str, int]
"""Device and queue, as ("net0", 1)."""


def assert_taken_over(timeline: Timeline, places: Collection[Place]) -> None:
    """The target took exactly these devices and queues, at the first try, and the source had given them up.

    Raises AssertionError naming the phase, with the events that speak against it.
    """
    timeline.assert_never_overlaps(*sorted({device for device, _ in places}))
    assert_given_up(timeline, places)
    tries = _calls(timeline, "target", "VHOST_SET_OWNER")
    taken = sorted((e.data.get("device", "?"), e.data.get("queue", 0)) for e in tries if e.ok)
    if taken != sorted(places) or len(tries) != len(places):
        expected = ", ".join(f"{device} queue {queue}" for device, queue in sorted(places))
        _fail(f"one VHOST_SET_OWNER of the target for each of {expected} expected {tag('acquire')}", tries)
    _assert_handed_over(timeline, [e for e in tries if e.ok])
    last = owners_at(timeline.ownership, timeline.events[-1].t)
    if lost := [place for place in places if last.get(place) != "target"]:
        _fail(f"the target should own {lost} in the end, owners are {last} {tag('acquire')}", [])
    if wrong := swapped(timeline.events):
        _fail(f"descriptors were taken for others {tag('handover')}", wrong)


def _assert_handed_over(timeline: Timeline, taken: Sequence[Event]) -> None:
    """What the target owns is what it was given, not a device that it opened itself."""
    given = [e for e in _calls(timeline, "target", "SCM_RIGHTS_RECV") if e.data.get("kind")]
    files = {e.data["file"] for e in given}
    if own := [e for e in taken if e.data["file"] not in files]:
        came = {e.data["kind"] for e in given} & {e.data["kind"] for e in own}
        phase = tag("acquire" if came else "handover")
        _fail(f"the target owns a device that it was not given, but opened itself {phase}", [*given, *own])


def assert_given_up(timeline: Timeline, places: Collection[Place]) -> None:
    """The source owned all of these before the transfer, and none of them when the first descriptor left."""
    first = owners_at(timeline.ownership, timeline.events[0].t)
    if unknown := [place for place in places if first.get(place) != "source"]:
        _fail(f"no evidence that the source owned {unknown} before {tag('release')}", [])
    start = timeline.phases["handover"].start
    kept = [place for place, owner in owners_at(timeline.ownership, start).items() if owner == "source"]
    if held := [place for place in places if place in kept]:
        releases = _calls(timeline, "source", "VHOST_RESET_OWNER")
        _fail(f"the source still owned {held} when the first descriptor left {tag('release')}", releases)


def assert_no_foreign_io(timeline: Timeline) -> None:
    """No packet was taken from or put into a tap by the side that does not run the guest.

    Raises AssertionError, also when no packet was seen at all: then there is no evidence.
    """
    packets = [e for e in timeline.events if e.name in ("TAP_READ", "TAP_WRITE")]
    for side in ("source", "target"):
        if not any(e.actor == side for e in packets):
            _fail(f"no evidence of packets of the {side} {tag('resume')}", packets)
    if wrong := foreign_packets(timeline.events, timeline.phases):
        raise AssertionError(wrong)


def _calls(timeline: Timeline, side: str, name: str) -> list[Event]:
    return [e for e in timeline.events if (e.observer, e.actor, e.name) == ("tracefs", side, name)]


def _fail(what: str, events: Sequence[Event]) -> None:
    raise AssertionError("\n".join([f"ownership: {what}", *(f"  {event}" for event in events)]))
