# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the guest's heartbeat agree with what QEMU says about the pause? Reads the timeline only."""

from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline, tag


def assert_paused(timeline: Timeline, vcpus: int = 1) -> None:
    """No vCPU ran between the stop and the resume that QEMU told, each ran before and after, none ran twice.

    Raises AssertionError quoting the beats and QEMU's events, each with its time, its bound and its source.
    """
    stop = _first(timeline, "STOP", 0)
    resume = _first(timeline, "RESUME", stop.t)
    for index in range(vcpus):
        last, first, beats = (_beat(timeline, name, index) for name in ("beat_last", "beat_first", "beats"))
        assert beats is not None, f"no heartbeat of vCPU {index} was observed"
        if last is None or first is None:
            wrong = f"vCPU {index} did not run again after the pause {tag('resume')}"
        elif _after(last, stop) or not _after(first, stop):
            wrong = f"vCPU {index} ran after the stop {tag('stop')}"
        elif _after(resume, first):
            wrong = f"vCPU {index} ran again before the resume {tag('resume')}"
        elif not beats.ok:
            wrong = f"vCPU {index} counted backwards: it ran on both sides {tag('complete')}"
        else:
            continue
        seen = sorted((e for e in (last, stop, resume, first, beats) if e), key=lambda e: e.t)
        right = "right is: beat_last, STOP, RESUME, beat_first"
        raise AssertionError("\n  ".join([f"pause: {wrong}; {right}", *map(str, seen)]))


def assert_silent_before(timeline: Timeline, phase: str) -> None:
    """The last beat before the pause was before `phase` began. Raises AssertionError quoting both."""
    last = _beat(timeline, "beat_last", 0)
    assert last is not None, "no heartbeat was observed"
    begin = timeline.phases[phase].start
    if last.t - last.err > begin:
        raise AssertionError(
            f"pause: the guest ran until {(last.t - begin) / 1e6:.3f} ms after the beginning of {phase} "
            f"{tag('stop')}; its last beat:\n  {last}"
        )


def assert_clock_went_on(timeline: Timeline) -> None:
    """The guest's clock went on, and no faster than the host's. Raises AssertionError with both figures."""
    beats = _beat(timeline, "beats", 0)
    assert beats is not None, "no heartbeat was observed"
    guest, host = (beats.data[f"{side}_clock_ns"] / 1e6 for side in ("guest", "host"))
    # Clocks may be slewed by 500 ppm (adjtimex(2)).
    if not 0 < guest <= host * 1.001:
        raise AssertionError(
            f"clock: the guest's went on by {guest:.3f} ms in {host:.3f} ms {tag('resume')}\n  {beats}"
        )


def _after(one: Event, other: Event) -> bool:
    """Whether `one` came after `other` for certain, within the error bounds of both."""
    return one.t - one.err > other.t + other.err


def _first(timeline: Timeline, name: str, since: int) -> Event:
    found = next((e for e in timeline.events if e.name == name and e.t >= since), None)
    assert found is not None, f"pause: QEMU announced no {name} {tag(name.lower())}"
    return found


def _beat(timeline: Timeline, name: str, index: int) -> Event | None:
    return next((e for e in timeline.events if e.name == name and e.data.get("index") == index), None)
