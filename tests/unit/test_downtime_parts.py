# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's settings, order, breakdown and record."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cprtest.downtime import plans
from cprtest.downtime.breakdown import breakdown, steps
from cprtest.downtime.record import Journal, Record
from cprtest.downtime.sample import Sample, unable
from cprtest.downtime.series import run, schedule
from cprtest.downtime.settings import Experiment, Setting, parsed
from cprtest.errors import UsageError
from cprtest.machine.process import Machine
from cprtest.provision.installed import Qemu
from cprtest.timeline.phases import Span

AB = plans.compared(["reference", "stock"], 3)


@pytest.mark.parametrize(
    "word",
    [
        "reference",
        "cpr-exec@reference",
        "stock,load=memory,vcpus=2",
        "/opt/qemu/bin/qemu-system-x86_64,ahead=no",
        "mutants:stop-slow=5",
    ],
)
def test_a_word_is_read_and_written_as_one_setting(word: str) -> None:
    assert str(parsed(word)) == word


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("teleport@stock", "modes are"),
        ("stock,memory=lots", "a number"),
        ("stock,vhost=maybe", "yes or no"),
        ("stock,colour=red", "a name of"),
        ("stock,memory", "NAME=VALUE"),
    ],
)
def test_a_wrong_word_is_told_what_could_stand_there(word: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        parsed(word)


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("reference,backing=swap", "backing is one of memfd, hugepages, shm"),
        ("reference,data=64,vfio=8", "data and vfio want the same ivshmem device"),
        ("reference,bar=1,vfio=6", "bar and vfio want the same ivshmem device"),
        ("reference,vfio=9", "A lab has 8 devices to pass through, not 9"),
    ],
)
def test_settings_that_make_no_sense_are_explained(word: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        unable(parsed(word))


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("reference,memory=4096", {"memory:5120"}),
        ("live@reference,memory=4096", {"memory:9216"}),
        ("reference,memory=4096,backing=hugepages", {"memory:1024", "hugepages:4096"}),
    ],
)
def test_a_guest_needs_its_memory_once_and_of_one_kind(
    word: str, wanted: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unmet(names: Sequence[str], _qemu: Path) -> list[str]:
        asked.extend(names)
        return []

    monkeypatch.setattr("cprtest.needs.unmet", unmet)
    monkeypatch.setattr("cprtest.provision.installed.under_test", lambda _name: Qemu(Path("/qemu")))
    assert unable(parsed(word)) == []
    assert {name for name in asked if name.startswith(("memory", "hugepages"))} == wanted


def test_there_is_no_unknown_experiment() -> None:
    with pytest.raises(UsageError, match="there are modes"):
        plans.planned(["colours"], "quick", Setting(), None)


def test_plans_leave_out_what_only_a_lab_has() -> None:
    names = [one.name for one in plans.planned([], "full", Setting(), None)]
    assert "memory" in names and "vfio" not in names


def test_an_early_stop_is_divided_into_its_phases() -> None:
    phases = {
        "stop": Span(100, 110),
        "setup": Span(110, 130),
        "release": Span(112, 120),
        "handover": Span(130, 140),
        "acquire": Span(140, 200),
        "stream": Span(210, 240),
        "complete": Span(242, 260),
        "resume": Span(241, 250),
    }
    parts = breakdown(phases)
    # Between acquire and stream, and stream and resume, no phase goes on: it still is the one that ended.
    assert parts == {
        "stop": 10, "setup": 12, "release": 8, "handover": 10, "acquire": 70, "stream": 31, "resume": 9,
    }  # fmt: skip
    assert sum(parts.values()) == 150


def test_of_a_late_stop_only_what_is_in_the_pause_counts() -> None:
    phases = {
        "handover": Span(10, 20),
        "acquire": Span(20, 108),
        "setup": Span(80, 106),
        "stop": Span(100, 105),
        "stream": Span(110, 120),
        "resume": Span(121, 122),
    }
    assert breakdown(phases) == {"stop": 10, "stream": 11, "resume": 1}


def test_memory_that_is_copied_before_the_stop_is_no_pause() -> None:
    phases = {"stream": Span(0, 50), "stop": Span(30, 32), "resume": Span(51, 52)}
    assert breakdown(phases) == {"stop": 2, "stream": 19, "resume": 1}


TRACE = """\
2026-11-23T03:12:21.180469Z cpr_state_load cpr-transfer mode
2026-11-23T03:12:21.181444Z cpr_find_fd net0-backend/tap, id 0 returns 18
2026-11-23T03:12:21.181653Z cpr_find_fd ram0, id 0 returns 17
2026-11-23T03:12:21.186264Z cpr_find_fd pc.rom, id 0 returns 15
2026-11-23T03:12:21.228125Z cpr_find_fd 0000:00:01.0/virtio-net-pci.rom, id 0 returns 14
2026-11-23T03:12:21.234503Z cpr_find_fd /rom@etc/acpi/tables, id 0 returns 13
"""


class Traced:
    """What `steps` needs of a target."""

    actor = "target"

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self.clock = self

    def at(self, wall: int) -> int:
        """As in WallClock: here both clocks are one."""
        return wall

    def error(self) -> int:
        return 0


def test_acquire_is_divided_by_what_the_target_finds(tmp_path: Path) -> None:
    target = Traced(tmp_path / "target.trace")
    target.trace.write_text(TRACE)
    start = 1795403541_180469000
    phases = {"acquire": Span(start, start + 66_000_000)}
    found = steps(cast(Machine, target), phases)
    assert found == {"memory": 5_795_000, "machine": 41_861_000, "devices": 18_344_000}
    assert sum(found.values()) == 66_000_000
    assert steps(cast(Machine, target), {"acquire": Span(start, start + 1)}) == {}


def test_no_pause_no_parts() -> None:
    assert breakdown({"stop": Span(1, 2)}) == {}


def test_each_block_has_every_setting_once_in_its_own_order() -> None:
    places = list(schedule(AB, 1))
    blocks = [[s for _, b, s in places if b == block] for block in range(4)]
    assert all(sorted(block) == [0, 1, 2] for block in blocks)
    assert len({tuple(block) for block in blocks}) > 1
    assert places == list(schedule(AB, 1)) != list(schedule(AB, 2))


class Taker:
    """Takes samples that tell who they are, until it is stopped after some."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.left = stop_after

    def __call__(self, setting: Setting) -> Sample:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return Sample({"paused": 1000 if setting.qemu == "reference" else 2000}, {"stop": 500}, took=0.1)


def _ignore(done: int, count: int, left: float) -> None:
    del done, count, left


def test_a_run_that_was_stopped_goes_on_and_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, parts = (Journal(tmp_path / name, {"seed": 1}, AB) for name in ("whole.json", "parts.json"))
    whole.begin({})
    run(whole, 1, Taker(), _ignore)
    parts.begin({})
    with pytest.raises(KeyboardInterrupt):
        run(parts, 1, Taker(stop_after=5), _ignore)
    again = Journal(tmp_path / "parts.json", {"seed": 2}, AB)
    assert again.resume()
    assert run(again, again.record.about["seed"], Taker(), _ignore)
    assert again.finish() == whole.finish() == Record.read(tmp_path / "parts.json")
    assert not list(tmp_path.glob("*.part"))


def test_a_line_that_was_cut_off_is_taken_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "record.json", {"seed": 1}, AB)
    journal.begin({})
    run(journal, 1, Taker(), _ignore)
    part = tmp_path / "record.json.part"
    part.write_text(part.read_text()[:-20])
    again = Journal(tmp_path / "record.json", {"seed": 1}, AB)
    again.resume()
    assert len(again.record.turns) == len(journal.record.turns) - 1
    run(again, 1, Taker(), _ignore)
    assert Record.read(part) == journal.record, "what came after the cut can be read"
    assert again.finish() == journal.record


def test_another_benchmark_does_not_go_on_with_it(tmp_path: Path) -> None:
    Journal(tmp_path / "record.json", {}, AB).begin({})
    with pytest.raises(UsageError, match="another benchmark"):
        Journal(tmp_path / "record.json", {}, plans.compared(["reference", "stock"], 4)).resume()


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({"lane": "lab", "builds": {"stock": "a"}}, "of here, and not of lab"),
        ({"lane": "here", "builds": {"stock": "b"}}, "of {'stock': 'a'}, and not of"),
    ],
)
def test_another_lane_or_build_does_not_go_on_with_it(
    about: dict[str, object], what: str, tmp_path: Path
) -> None:
    Journal(tmp_path / "record.json", {"lane": "here", "builds": {"stock": "a"}}, AB).begin({})
    with pytest.raises(UsageError, match=what):
        Journal(tmp_path / "record.json", about, AB).resume()


def test_a_record_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("the one before")
    journal = Journal(path, {"seed": 1}, AB)
    journal.begin({})
    run(journal, 1, Taker(), _ignore)
    assert journal.finish() == Record.read(path)
    assert (tmp_path / "record.json.before").read_text() == "the one before"


def test_warm_up_and_failures_do_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "record.json", {"seed": 1}, AB)
    journal.begin({})
    taker = Taker()
    run(journal, 1, lambda s: Sample(error="it went wrong") if s.qemu == "stock" else taker(s), _ignore)
    record = journal.finish()
    assert record.series(0, 0, "paused") == [1.0, 1.0, 1.0]
    assert record.series(0, 1, "paused") == []
    assert record.errors(0, 1) == ["it went wrong"] * 4


def test_what_is_missing_is_not_tried(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "record.json", {"seed": 1}, AB)
    journal.begin({"stock": "it is not there"})
    run(journal, 1, Taker(), _ignore)
    assert {turn.setting for turn in journal.record.turns} == {0, 2}


def test_a_file_that_is_no_record_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UsageError, match="is not a record"):
        Record.read(tmp_path / "other.json")


def test_the_first_setting_is_measured_twice() -> None:
    made = Experiment("x", "?", (Setting(), replace(Setting(), vcpus=2)), 1).with_noise()
    assert made.noise == 2 and made.settings[2] == replace(made.settings[0], again=True)
