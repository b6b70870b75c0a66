# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's command line on records: exit status and what it says."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from cprtest.downtime import plans
from cprtest.downtime.cli import main
from cprtest.downtime.record import Record, Turn
from cprtest.downtime.sample import Sample
from cprtest.downtime.settings import Setting
from cprtest.report.about import host


def _record(path: Path, pauses: dict[str, float], seed: int = 1) -> str:
    """A file with 20 blocks of these settings; their pauses are in ms."""
    (experiment,) = plans.compared(list(pauses), 20)
    chance = random.Random(seed)
    turns = []
    for block in range(21):
        for n, pause in enumerate([*pauses.values(), next(iter(pauses.values()))]):
            us = round(1000 * pause * chance.lognormvariate(0, 0.03))
            turns.append(Turn(0, block, n, Sample({"vcpu": us, "paused": us}, {"stop": us})))
    about = {"lane": "here", "when": "today", "seed": seed, "host": host(), "versions": {}}
    Record(about, [experiment], turns, {}).write(path)
    return str(path)


def test_a_pause_beyond_the_budget_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = _record(tmp_path / "slow.json", {"reference": 50, "stock": 60})
    assert main(["--read", slow]) == 0
    assert main(["--read", slow, "--max-ratio", "1.3"]) == 0
    assert main(["--read", slow, "--max-ratio", "1.1"]) == 1
    assert (
        "TOO SLOW settings: stock: the pause may be 1.1 times that of reference, and is 1."
        in capsys.readouterr().out
    )


def test_a_budget_is_no_success_when_the_other_could_not_be_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.json"
    _record(file, {"reference": 50, "stock": 60})
    record = Record.read(Path(file))
    failed = [
        replace(turn, sample=Sample(error="the target ended")) if turn.setting == 1 else turn
        for turn in record.turns
    ]
    replace(record, turns=failed).write(file)
    assert main(["--read", str(file), "--max-ratio", "1.1"]) == 1
    assert "NOT JUDGED settings: stock: the target ended." in capsys.readouterr().out


def test_what_was_judged_before_and_failed_now_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _record(tmp_path / "old.json", {"reference": 50, "stock": 60})
    file = tmp_path / "new.json"
    _record(file, {"reference": 50, "stock": 60}, seed=2)
    record = Record.read(file)
    failed = Sample(error="it ended")
    turns = [replace(turn, sample=failed) if turn.setting == 1 else turn for turn in record.turns]
    replace(record, turns=turns).write(file)
    assert main(["--read", str(file), "--compare", old]) == 1
    assert "NOT JUDGED settings: stock: too few samples" in capsys.readouterr().out


def test_a_budget_judges_builds_and_not_other_modes(tmp_path: Path) -> None:
    (modes,) = plans.planned(["modes"], "quick", Setting(), 12)
    slow = {"cpr-exec@reference": 90.0}
    turns = [
        Turn(0, block, n, Sample({"paused": round(1000 * slow.get(str(setting), 50.0)) + block + n}))
        for block in range(13)
        for n, setting in enumerate(modes.settings)
    ]
    file = tmp_path / "modes.json"
    about = {"lane": "here", "when": "today", "seed": 1, "host": host(), "versions": {}}
    Record(about, [modes], turns, {}).write(file)
    assert main(["--read", str(file), "--max-ratio", "1.1"]) == 0


def test_a_budget_against_what_was_not_measured_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = _record(tmp_path / "slow.json", {"reference": 50, "stock": 60})
    assert main(["--read", slow, "--max-ratio", "1.1", "--against", "stock"]) == 2
    assert "begins with stock" in capsys.readouterr().err


def test_a_regression_since_an_old_record_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _record(tmp_path / "old.json", {"reference": 50, "stock": 60})
    same = _record(tmp_path / "same.json", {"reference": 70, "stock": 84}, seed=2)
    worse = _record(tmp_path / "worse.json", {"reference": 50, "stock": 80}, seed=3)
    assert main(["--read", same, "--compare", old]) == 0
    assert "no change seen" in capsys.readouterr().out
    assert main(["--read", worse, "--compare", old]) == 1
    assert "longer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["colours"], "There is no experiment 'colours'"),
        (["modes", "--ab", "reference", "stock"], "not both"),
        (["--ab", "walk@stock", "reference"], "modes are"),
        (["--read", "/nonexistent.json"], "is not a record"),
        (["--ab", "reference,load=heavy"], "loads are"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    words: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json", str(tmp_path / "new.json")]) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
