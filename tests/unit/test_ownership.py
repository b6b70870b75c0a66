# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owned what when, and whether observers agree: from events as the kernel's tracer gives them."""

from typing import Any

import pytest

from cprtest.timeline.agreement import disagreements
from cprtest.timeline.event import Event
from cprtest.timeline.ownership import foreign_io, overlaps, ownership, swapped
from cprtest.timeline.takeover import assert_no_foreign_io, assert_taken_over
from cprtest.timeline.timeline import Timeline

QUEUE = {"device": "net0", "queue": 0, "file": 3, "kind": "vhost-net"}


def kernel(t: int, actor: str, name: str, ok: bool | None = True, **data: Any) -> Event:
    return Event(t, actor, "tracefs", name, ok=ok, data={**QUEUE, "fd": 14, "end": t + 5, **data})


def trace(t: int, actor: str, name: str, text: str = "") -> Event:
    return Event(t, actor, "trace", name, err=3, data={"text": text})


def hand_over(**changed: Event | None) -> list[Event]:
    """A hand-over done right; `changed` replaces steps, None leaves one out."""
    steps: dict[str, Event | None] = {
        "owned": kernel(100, "source", "OWNED", None),
        "last": Event(150, "source", "tracefs", "TAP_READ", data={"tid": 1}),
        "stopping": trace(200, "source", "runstate_set", "9 (running) new_state 7 (finish-migrate)"),
        "stop": Event(210, "source", "qmp", "STOP", err=3),
        "release": kernel(300, "source", "VHOST_RESET_OWNER"),
        "said": trace(310, "source", "vhost_cpr_release", "dev: 0x1 fd: 14 ret: 0"),
        "save": trace(400, "source", "cpr_state_save"),
        "send": Event(410, "source", "tracefs", "SCM_RIGHTS_SEND"),
        "receive": Event(500, "target", "tracefs", "SCM_RIGHTS_RECV", data=dict(QUEUE)),
        "acquire": kernel(600, "target", "VHOST_SET_OWNER", fd=18),
        "worker": Event(603, "target", "tracefs", "vhost-worker-start", data={"worker": 77}),
        "resume": Event(700, "target", "qmp", "RESUME", err=3),
        "resumed": trace(710, "target", "runstate_set", "1 (inmigrate) new_state 9 (running)"),
        "first": Event(800, "target", "tracefs", "TAP_READ", data={"tid": 2}),
    }
    return sorted((e for e in {**steps, **changed}.values() if e is not None), key=lambda e: e.t)


def timeline(**changed: Event | None) -> Timeline:
    return Timeline.build(hand_over(**changed), {}, None)


def test_a_queue_is_owned_by_one_side_after_the_other() -> None:
    rows = ownership(hand_over())
    assert [(r["owner"], r["start"], r["end"]) for r in rows] == [("source", 100, 300), ("target", 605, 800)]
    assert overlaps(rows) == []


def test_two_owners_overlap_also_by_two_files() -> None:
    rows = ownership(hand_over(release=None, acquire=kernel(600, "target", "VHOST_SET_OWNER", file=9)))
    ((first, second),) = overlaps(rows)
    assert (first["owner"], second["owner"]) == ("source", "target")


def test_what_is_refused_is_not_owned() -> None:
    rows = ownership(hand_over(acquire=kernel(600, "target", "VHOST_SET_OWNER", False, errno="EBUSY")))
    assert [r["owner"] for r in rows] == ["source"]


def test_source_takes_back_what_a_failed_target_still_holds() -> None:
    back = kernel(650, "source", "VHOST_SET_OWNER", file=12)
    rows = ownership(hand_over(resume=None, resumed=None, back=back))
    assert [(r["owner"], r["start"], r["end"]) for r in rows] == [
        ("source", 100, 300),
        ("target", 605, 650),
        ("source", 655, 800),
    ]


def test_source_may_not_take_back_what_the_guest_uses_on_the_target() -> None:
    rows = ownership(hand_over(back=kernel(750, "source", "VHOST_SET_OWNER", file=12)))
    assert len(overlaps(rows)) == 1


def test_vsock_is_given_up_by_its_last_close() -> None:
    rows = ownership(hand_over(release=Event(305, "source", "tracefs", "CLOSE", data=dict(QUEUE))))
    assert rows[0]["end"] == 305


def test_dma_is_owned_until_its_addresses_are_given_up() -> None:
    vfio: dict[str, Any] = {"device": "vfio", "file": 8}
    events = [
        kernel(10, "source", "OWNED", None, **vfio),
        kernel(20, "source", "VFIO_IOMMU_UNMAP_DMA", flags=2, **vfio),
        kernel(30, "source", "VFIO_IOMMU_UNMAP_DMA", flags=6, **vfio),
        kernel(40, "target", "VFIO_IOMMU_MAP_DMA", flags=4, **vfio),
        kernel(50, "target", "VFIO_IOMMU_MAP_DMA", flags=4, **vfio),
    ]
    assert [(r["owner"], r["start"], r["end"]) for r in ownership(events)] == [
        ("source", 10, 30),
        ("target", 45, 50),
    ]


def test_phases_are_those_that_the_kernel_saw() -> None:
    spans = timeline().phases
    assert (spans["release"].start, spans["release"].end) == (300, 310)
    assert (spans["handover"].start, spans["handover"].end) == (410, 500)
    assert spans["acquire"].start == 600


def test_a_hand_over_done_right_is_taken_over() -> None:
    assert_taken_over(timeline(), [("net0", 0)])
    assert_no_foreign_io(timeline())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"release": None}, r"(?s)saw two \[phase release, acquire\]"),
        ({"release": kernel(450, "source", "VHOST_RESET_OWNER")}, r"(?s)still owned .* \[phase release\]"),
        ({"busy": kernel(590, "target", "VHOST_SET_OWNER", False)}, r"(?s)one VHOST_SET_OWNER.*\[phase acq"),
        ({"acquire": None}, r"one VHOST_SET_OWNER of the target for each of net0 queue 0 expected"),
        ({"receive": None}, r"opened itself \[phase handover\]"),
        (
            {"receive": Event(500, "target", "tracefs", "SCM_RIGHTS_RECV", data={**QUEUE, "file": 4})},
            r"opened itself \[phase acquire\]",
        ),
        ({"owned": None}, r"no evidence that the source owned .* \[phase release\]"),
        (
            {"swap": kernel(690, "target", "VHOST_SET_VRING_NUM", taken_for="net0 queue 1")},
            r"\[phase handover\]",
        ),
    ],
)
def test_takeover_gone_wrong(changed: dict[str, Event | None], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_taken_over(timeline(**changed), [("net0", 0)])


@pytest.mark.parametrize(
    ("actor", "t", "phase"), [("source", 520, r"\[phase setup\]"), ("target", 650, r"\[phase acquire\]")]
)
def test_packets_of_the_wrong_side(actor: str, t: int, phase: str) -> None:
    seen = timeline(stolen=Event(t, actor, "tracefs", "TAP_READ", data={"tid": 3}))
    assert len(foreign_io(seen.events, seen.phases)) == 1
    with pytest.raises(AssertionError, match=phase):
        assert_no_foreign_io(seen)


def test_packets_need_evidence() -> None:
    with pytest.raises(AssertionError, match="no evidence of packets of the source"):
        assert_no_foreign_io(timeline(last=None))


def test_swapped_descriptors_are_found() -> None:
    assert swapped(hand_over()) == []


def test_observers_that_agree() -> None:
    assert disagreements(hand_over()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"release": None}, "the kernel saw no VHOST_RESET_OWNER of descriptor 14 [phase release]"),
        ({"release": kernel(330, "source", "VHOST_RESET_OWNER")}, "no VHOST_RESET_OWNER of descriptor 14"),
        ({"worker": None}, "no worker of the target was started [phase acquire]"),
        ({"send": None}, "the target received 1 descriptors, the source sent 0 [phase handover]"),
        ({"send": Event(510, "source", "tracefs", "SCM_RIGHTS_SEND")}, "should come after"),
        ({"save": trace(450, "source", "cpr_state_save")}, "should come after"),
        ({"stopping": trace(290, "source", "runstate_set")}, "QEMU's trace has no such change [phase stop]"),
        ({"resumed": trace(650, "target", "runstate_set"), "t": trace(790, "target", "x")}, "[phase resume]"),
        ({"gate": Event(590, "target", "gate", "VHOST_SET_OWNER", ok=False)}, "the gate let 0"),
        (
            {
                "gate": Event(290, "source", "gate", "VHOST_RESET_OWNER"),
                "early": Event(620, "target", "gate", "VHOST_SET_OWNER", err=2),
            },
            "should come after",
        ),
        (
            {"sample": Event(690, "target", "proc", "SAMPLE", data={"at": "x", "end": 695, "workers": []})},
            "/proc does not show it at x",
        ),
    ],
)
def test_observers_that_contradict_each_other(changed: dict[str, Event | None], message: str) -> None:
    found = disagreements(hand_over(**changed))
    assert any(message in sentence for sentence in found), found


def test_a_call_from_before_the_kernel_was_asked() -> None:
    seen = {f"at {t}": Event(t, "source", "gate", "VHOST_RESET_OWNER", err=1) for t in (10, 290)}
    seen["too"] = Event(598, "target", "gate", "VHOST_SET_OWNER", err=1)
    begun = {"begun": trace(20, "source", "migrate_set_state")}
    assert disagreements(hand_over(**seen, **begun)) == []
    (found,) = disagreements(hand_over(**seen))
    assert "the gate let 2" in found
    seen["again"] = Event(295, "source", "gate", "VHOST_RESET_OWNER", err=1)
    (found,) = disagreements(hand_over(**seen, **begun))
    assert "the gate let 2" in found


def test_gate_and_kernel_agree() -> None:
    gate = {
        "let": Event(290, "source", "gate", "VHOST_RESET_OWNER", err=1),
        "too": Event(598, "target", "gate", "VHOST_SET_OWNER", err=1),
    }
    assert disagreements(hand_over(**gate)) == []
