# SPDX-License-Identifier: GPL-2.0-or-later
"""Do the guest's signs of life agree with what QEMU says about the pause? Reads the timeline only."""

from cprtest.limits import stretched
from cprtest.timeline.downtime import FIGURES
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline, tag

_QUEUE = 500
"""Packets that a tap keeps for whoever reads it next (TUN_READQ_SIZE in drivers/net/tun.c)."""
_ROUNDED = 2_000_000
"""ns: QEMU's figure is the difference of two times in whole milliseconds."""
_MOMENT = 0.001
"""Seconds of a fast machine for which a thread may not get its CPU back."""


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

    There was one before, and there is one again afterwards. Raises AssertionError quoting the edges of the
    silence.
    """
    last, first = (_of(timeline, f"{kind}_{edge}", 0) for edge in ("last", "first"))
    assert last is not None, f"no {kind} of the guest was observed"
    assert first is not None, f"silence: no {kind} came again after it {tag(end)}\n  {last}"
    timeline.assert_order(start, end)
    begin, until = timeline.phases[start].start, timeline.phases[end].start
    early = first.t + first.err < until
    if last.t - last.err > begin or early:
        late = f"the last {kind} came {(last.t - begin) / 1e6:.3f} ms after {start} began {tag('stop')}"
        soon = f"a {kind} came before {end} began {tag(end)}"
        seen = [f"{name}: {timeline.phases[name].start / 1e6:.3f} ms" for name in (start, end)]
        raise AssertionError(
            "\n  ".join([f"silence: {soon if early else late}", *seen, str(last), str(first)])
        )


def assert_nothing_ran(timeline: Timeline, figure: str) -> None:
    """vcpu, network or disk stood still from the end of stop to the beginning of resume, then went on.

    Raises AssertionError quoting the edges of the silence.
    """
    last, first = (_of(timeline, name, 0) for name in FIGURES[figure])
    assert last is not None, f"downtime: {figure} was not observed"
    assert first is not None, f"downtime: {figure} did not go on after the pause {tag('resume')}\n  {last}"
    timeline.assert_order("stop", "resume")
    stop, resume = timeline.phases["stop"], timeline.phases["resume"]
    for event, late, phase in (
        (last, last.t - last.err > stop.end, "stop"),
        (first, first.t + first.err < resume.start, "resume"),
    ):
        if late:
            when = f"stop ended at {stop.end / 1e6:.3f} ms, resume began at {resume.start / 1e6:.3f} ms"
            raise AssertionError(
                f"downtime: {figure} was alive in the pause {tag(phase)}\n  {event}\n  {when}"
            )


def assert_told(timeline: Timeline) -> None:
    """QEMU's own downtime is the time from the beginning of stop to the source's `completed`.

    That is what migration_stop_vm() and migration_completion_end() of 10.2 measure, in whole milliseconds.
    Raises AssertionError with both figures.
    """
    told, wanted = timeline.downtime["qemu"], timeline.between("stop", "complete")
    assert told is not None, f"downtime: QEMU gave no figure {tag('complete')}"
    assert wanted is not None, f"downtime: no evidence of stop and complete {tag('stop', 'complete')}"
    begun = timeline.phases["complete"].start - timeline.phases["stop"].start
    # QEMU looks at its clock a moment before it says `completed`; others may have the CPU in between.
    if not begun - _ROUNDED - stretched(_MOMENT) * 1e9 <= told <= wanted + _ROUNDED:
        seen = f"{begun / 1e6:.3f} to {wanted / 1e6:.3f} ms"
        raise AssertionError(
            f"downtime: QEMU says {told / 1e6:.0f} ms from stop to complete, the timeline {seen} "
            f"{tag('stop', 'complete')}"
        )


def assert_never_ran(timeline: Timeline) -> None:
    """There was not one beat from the beginning of the transfer to its end. Raises AssertionError."""
    beats = _of(timeline, "beats", 0)
    assert beats is not None, "no heartbeat was observed"
    if beats.data["seen"]:
        raise AssertionError(f"pause: a guest that was paused ran {tag('resume')}\n  {beats}")


def assert_nothing_lost(
    timeline: Timeline, *, but_in_the_pause: bool = False, but_overrun: bool = False
) -> None:
    """The guest got every numbered packet, and answered it once.

    but_in_the_pause: if sent while it ran. but_overrun: or if the pause was too long for a tap's queue.

    An answer that got lost at the edge of the pause is counted (`lost_from_guest`) and not judged: why the
    reference loses one now and then, when QEMU serves the tap, is not known.

    Raises AssertionError with the numbers of those that were lost or came twice.
    """
    packets = _of(timeline, "packets", 0)
    assert packets is not None, "no packet probe observed the guest"
    seen = packets.data
    wrong = []
    if _of(timeline, "packet_first", 0) is None:
        wrong.append(f"no packet was answered after the pause {tag('resume')}")
    if seen["doubled"]:
        wrong.append(f"packets {seen['doubled']} were answered twice {tag('resume')}")
    if seen["lost_outside_pause"]:
        wrong.append(f"packets {seen['lost_outside_pause']} were lost while the guest ran {tag('resume')}")
    lost = seen["lost"] - seen["lost_from_guest"]
    if lost > 0 and not seen["lost_outside_pause"] and not but_in_the_pause:
        pause = timeline.pause
        overrun = pause is not None and pause[1] - pause[0] > _QUEUE * seen["period_ns"]
        why = f"which was longer than {_QUEUE} packets, a tap's queue" if overrun else tag("setup", "acquire")
        if not (overrun and but_overrun):
            wrong.append(f"{lost} packets to the guest were lost in the pause {why}")
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
