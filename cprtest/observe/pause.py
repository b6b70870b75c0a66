# SPDX-License-Identifier: GPL-2.0-or-later
"""Do the guest's signs of life agree with what QEMU says about the pause? Reads the timeline only."""

from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline, tag


def assert_paused(timeline: Timeline, vcpus: int = 1) -> None:
    """QEMU announced a stop and a resume; each vCPU ran before and after, and none ran on two sides.

    That none ran in between is checked in every transfer (cprtest/timeline/agreement.py). Raises
    AssertionError quoting the beats.
    """
    for name in ("STOP", "RESUME"):
        told = any(e.name == name for e in timeline.events)
        assert told, f"pause: QEMU announced no {name} {tag(name.lower())}"
    for index in range(vcpus):
        last, first, beats = (_of(timeline, name, index) for name in ("beat_last", "beat_first", "beats"))
        assert beats is not None, f"no heartbeat of vCPU {index} was observed"
        if last is None or first is None:
            wrong = f"vCPU {index} did not run again after the pause {tag('resume')}"
        elif not beats.ok:
            wrong = f"vCPU {index} counted backwards: it ran on both sides {tag('complete')}"
        else:
            continue
        raise AssertionError("\n  ".join([f"pause: {wrong}", *map(str, filter(None, (last, first, beats)))]))


def assert_silent(timeline: Timeline, start: str, end: str, kind: str = "beat") -> None:
    """There was no sign of life, a beat or a packet, from the beginning of one phase to that of another.

    Raises AssertionError quoting the edges of the silence.
    """
    last, first = (_of(timeline, f"{kind}_{edge}", 0) for edge in ("last", "first"))
    assert last is not None, f"no {kind} of the guest was observed"
    timeline.assert_order(start, end)
    begin, until = timeline.phases[start].start, timeline.phases[end].start
    early = first is not None and first.t + first.err < until
    if last.t - last.err > begin or early:
        late = f"the last {kind} came {(last.t - begin) / 1e6:.3f} ms after {start} began {tag('stop')}"
        soon = f"a {kind} came before {end} began {tag(end)}"
        seen = [f"{name}: {timeline.phases[name].start / 1e6:.3f} ms" for name in (start, end)]
        raise AssertionError(
            "\n  ".join([f"silence: {soon if early else late}", *seen, str(last), str(first)])
        )


def assert_never_ran(timeline: Timeline) -> None:
    """There was not one beat from the beginning of the transfer to its end. Raises AssertionError."""
    beats = _of(timeline, "beats", 0)
    assert beats is not None, "no heartbeat was observed"
    if beats.data["seen"]:
        raise AssertionError(f"pause: a guest that was paused ran {tag('resume')}\n  {beats}")


def assert_nothing_lost(timeline: Timeline, *, but_in_the_pause: bool = False) -> None:
    """The guest got every numbered packet, and answered it once (`but_in_the_pause`: if sent while it ran).

    An answer that got lost at the edge of the pause is counted (`lost_from_guest`) and not judged: why the
    reference loses one now and then, when QEMU serves the tap, is not known yet (docs/design-notes.md).

    Raises AssertionError with the numbers of those that were lost or came twice.
    """
    packets = _of(timeline, "packets", 0)
    assert packets is not None, "no packet probe observed the guest"
    seen = packets.data
    wrong = []
    if seen["doubled"]:
        wrong.append(f"packets {seen['doubled']} were answered twice {tag('resume')}")
    if seen["lost_outside_pause"]:
        wrong.append(f"packets {seen['lost_outside_pause']} were lost while the guest ran {tag('resume')}")
    lost = seen["lost"] - seen["lost_from_guest"]
    if lost > 0 and not seen["lost_outside_pause"] and not but_in_the_pause:
        wrong.append(f"{lost} packets to the guest were lost in the pause {tag('setup', 'acquire')}")
    if wrong:
        raise AssertionError("\n  ".join([f"packets: {'; '.join(wrong)}", str(packets)]))


def assert_clock_went_on(timeline: Timeline) -> None:
    """The guest's clock went on, and no faster than the host's. Raises AssertionError with both figures."""
    beats = _of(timeline, "beats", 0)
    assert beats is not None, "no heartbeat was observed"
    if not beats.data.get("by_timer_after_pause"):
        raise AssertionError(
            f"clock: no timer of the guest went off after the pause {tag('stream')}\n  {beats}"
        )
    guest, host = (beats.data[f"{side}_clock_ns"] / 1e6 for side in ("guest", "host"))
    # Clocks may be slewed by 500 ppm (adjtimex(2)).
    if not 0 < guest <= host * 1.001:
        raise AssertionError(
            f"clock: the guest's went on by {guest:.3f} ms in {host:.3f} ms {tag('resume')}\n  {beats}"
        )


def _of(timeline: Timeline, name: str, index: int) -> Event | None:
    return next((e for e in timeline.events if e.name == name and e.data.get("index") == index), None)
