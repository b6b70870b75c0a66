# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told from noise, and what is not."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cprtest import paths
from cprtest.downtime import compare, judge, plans, plots, statistics, table
from cprtest.downtime.breakdown import PARTS, STEPS
from cprtest.downtime.page import write
from cprtest.downtime.record import Record, Turn, value
from cprtest.downtime.sample import Sample
from cprtest.downtime.settings import Experiment, Setting, growing
from cprtest.errors import UsageError
from cprtest.report.about import host

RECORDS = paths.CHECKOUT / "docs" / "downtime"
TRIES = 50
PAIRS = 30


def _tries(lane: str) -> Iterator[tuple[list[tuple[Sample, Sample]], list[tuple[Sample, Sample]]]]:
    """Half of all real pairs of a setting with itself, to be judged, and the others, to tell the noise."""
    found = []
    for record in map(Record.read, sorted(RECORDS.glob(f"{lane}-*.json"))):
        for number, experiment in enumerate(record.experiments):
            noise = experiment.noise
            assert noise is not None
            blocks = [block for block in record.blocks(number) if 0 in block and noise in block]
            if len(blocks) >= statistics.FEWEST:  # of fewer nothing is ever said
                found += [(block[0], block[noise]) for block in blocks]
    for seed in range(TRIES):
        drawn = random.Random(seed).sample(found, len(found))
        yield drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]


def _of(pairs: list[tuple[Sample, Sample]], figure: str) -> list[tuple[float, float]]:
    return [(value(a, figure), value(b, figure)) for a, b in pairs]


@pytest.mark.parametrize(("lane", "fewest"), [("here", 12), ("lab", 10)])
def test_a_setting_against_itself_raises_no_alarm_in_50_tries(lane: str, fewest: int) -> None:
    """On the samples of the page of record: neither of the whole nor of a phase or step."""
    for pairs, noise in _tries(lane):
        assert len(pairs) >= fewest
        assert not statistics.compare(_of(pairs, judge.JUDGED), _of(noise, judge.JUDGED)).real
        parts = (*PARTS, *STEPS)
        changed, itself = ({name: _of(some, name) for name in parts} for some in (pairs, noise))
        assert statistics.grown(changed, itself) == []


def test_ten_percent_more_are_found_in_quiet_samples() -> None:
    """Of samples that scatter by 3 %, as an idle machine's do."""
    chance = random.Random(1)
    quiet = [tuple(60 * chance.lognormvariate(0, 0.03) for _ in range(3)) for _ in range(PAIRS)]
    found = statistics.compare([(a, 1.1 * b) for a, b, _ in quiet], [(a, c) for a, _, c in quiet])
    assert found.real
    assert found.ratio.low < 1.1 < found.ratio.high


def test_few_pairs_prove_nothing() -> None:
    pairs = [(1.0, 2.0 + n / 100) for n in range(8)]
    itself = [(1.0, 1.0 + n / 1000) for n in range(8)]
    assert statistics.compare(pairs, itself).real
    assert not statistics.compare(pairs[:7], itself).real
    assert not statistics.compare(pairs, itself[:7]).real, "nobody knows the noise"


def test_the_phase_that_grew_is_named_and_no_other() -> None:
    chance = random.Random(2)

    def paired(more: float) -> list[tuple[float, float]]:
        return [(chance.gauss(20, 4), chance.gauss(20, 4) + more) for _ in range(PAIRS)]

    changed = {"stop": paired(8), "acquire": paired(0), "stream": paired(0), "resume": []}
    found = statistics.grown(changed, {name: paired(0) for name in changed})
    assert [name for name, _ in found] == ["stop"]
    assert found[0][1].low < 8 < found[0][1].high


def test_the_slope_is_found_among_wild_samples() -> None:
    chance = random.Random(3)
    points = [(n, 50 + 3 * n + chance.gauss(0, 1)) for n in (1, 2, 4, 8) for _ in range(8)]
    points[3] = (1, 900.0)
    slope, base = statistics.slope(points)
    assert 2.5 < slope.low < slope.value < slope.high < 3.5 and 45 < base < 55


def test_what_never_changes_has_no_slope() -> None:
    assert statistics.slope([(1, 7.0), (2, 7.0), (2, 7.0)]) == (statistics.Interval(0, 0, 0), 7.0)


def _record(pauses: list[float], experiment: Experiment, seed: int = 1, blocks: int = 20) -> Record:
    """A record in which setting n has the pause pauses[n], in ms, and each block its own speed."""
    chance = random.Random(seed)
    turns = []
    for block in range(blocks + 1):
        speed = chance.lognormvariate(0, 0.3)
        for n, pause in enumerate(pauses):
            us = round(1000 * pause * speed * chance.lognormvariate(0, 0.03))
            sample = Sample({"vcpu": us + 500, "paused": us, "qemu": us}, {"stop": us // 10, "stream": us})
            turns.append(Turn(0, block, n, sample))
    about = {"lane": "here", "when": "today", "seed": seed, "host": host(), "versions": {}}
    return Record(about, [experiment], turns, {})


AB = plans.compared(["reference", "stock"], 20)[0]


def test_a_longer_pause_is_told_though_the_machine_changes_its_speed() -> None:
    record = _record([50, 60, 50], AB)
    row = judge.rows(record, 0)[1]
    assert row.against is not None and row.against.real
    assert row.against.ratio.low < 1.2 < row.against.ratio.high
    assert judge.too_slow(record, 1.1, "reference") and not judge.too_slow(record, 1.3, "reference")
    assert not judge.too_slow(_record([50, 50, 50], AB), 1.0, "reference")


def test_a_later_record_is_compared_by_ratios_and_not_by_the_clock() -> None:
    old = _record([50, 60, 50], AB)
    slower_machine = _record([150, 180, 150], AB, seed=2)
    regressed = _record([50, 90, 50], AB, seed=3)
    assert [change.real for change in compare.changes(old, slower_machine)] == [False]
    (change,) = compare.changes(old, regressed)
    assert change.real and change.new > change.old and "longer" in str(change)


def test_a_first_setting_that_got_longer_is_seen_by_all_others() -> None:
    three = plans.compared(["reference", "stock", "mutants"], 20)[0]
    old = _record([50, 60, 40, 50], three)
    found = compare.changes(old, _record([75, 60, 40, 75], three, seed=2))
    assert compare.first_is_longer(found) == ["settings"]
    assert compare.first_is_longer(compare.changes(old, _record([50, 40, 40, 50], three, seed=3))) == []


def test_records_of_two_lanes_or_few_blocks_are_not_compared() -> None:
    old = _record([50, 60, 50], AB)
    (change,) = compare.changes(old, _record([50, 90, 50], AB, seed=2, blocks=7))
    assert not change.real and "too few samples" in str(change)
    lab = _record([50, 60, 50], AB)
    lab.about["lane"] = "lab"
    with pytest.raises(UsageError, match="two lanes, here and lab"):
        compare.changes(old, lab)


def test_a_phase_that_one_pause_lacks_is_what_made_the_other_longer() -> None:
    chance = random.Random(1)
    turns = []
    for block in range(21):
        for n in (0, 1, 2):
            stream, acquire = (round(chance.gauss(9000, 90)) for _ in range(2))
            late = n == 1
            phases = {"stream": stream} if late else {"stream": stream, "acquire": acquire}
            steps = {"devices": acquire + (5000 if late else 0)}
            turns.append(Turn(0, block, n, Sample({"paused": sum(phases.values())}, phases, steps)))
    row = judge.rows(Record({"lane": "here"}, [AB], turns, {}), 0)[1]
    assert row.verdict().startswith("0.50") and "; acquire -9." in row.verdict(), row.verdict()
    assert "devices" not in row.verdict(), "that step is no part of the late pause"


def test_growth_along_an_axis() -> None:
    axis = Experiment("nics", "?", growing(Setting(), "nics", (1, 2, 4, 8)), 20, "nics").with_noise()
    steep = judge.growth(_record([53, 56, 62, 74, 53], axis), 0)
    assert steep is not None and not steep.flat and steep.slope.low < 3.2
    flat = judge.growth(_record([50, 50, 50, 50, 50], axis), 0)
    assert flat is not None and flat.flat
    assert judge.growth(_record([50, 60, 50], AB), 0) is None


@pytest.mark.parametrize("pauses", [[50.0, 60.0, 50.0], [50.0, 50.0, 50.0]])
def test_tables_plots_and_page_can_be_made_of_any_record(pauses: list[float], tmp_path: Path) -> None:
    record = _record(pauses, AB)
    assert table.table(record, 0).row_count == 2
    assert table.phases(record, 0).row_count == 2
    plots.draw(record, tmp_path, ("svg", "png"))
    assert {path.name for path in tmp_path.iterdir()} >= {"settings-phases.svg", "settings-samples.png"}
    write([record], tmp_path / "page.md")
    again = (tmp_path / "page" / "here" / "settings-phases.svg").read_bytes()
    write([record], tmp_path / "page.md")
    assert (tmp_path / "page" / "here" / "settings-phases.svg").read_bytes() == again
