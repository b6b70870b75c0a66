# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests are tried against which mutant, and what counts as killed."""

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cprtest.errors import UsageError
from cprtest.job import suites
from cprtest.mutants import catalogue, cli, worker
from cprtest.mutants.catalogue import Mutant, Test
from cprtest.mutants.trial import Settings, Trial
from cprtest.mutants.verdicts import Book, Checked, Verdict
from cprtest.provision import qemu_source
from cprtest.report.model import Result


def case(name: str, *needs: str, smoke: bool = True) -> Test:
    words = " ".join([name, *needs]).replace(":", " ").replace("_", " ").replace("-", " ").split()
    return Test(name, needs, frozenset(words), smoke, catalogue.lane_of(needs))


TESTS = [
    case("memory", "qemu:cpr-transfer"),
    case("paused_guest"),
    case("vhost_net", "kvm", "vhost-net", smoke=False),
    case("vhost_net_multiqueue", "kvm", "vhost-net"),
    case("nvme", "kvm", "vfio:nvme"),
    case("together", "kvm", "vhost-net", "vfio:nvme"),
]


def mutant(*needs: str, name: str = "x-y") -> Mutant:
    return Mutant(name, "release", "", "", needs=needs)


def test_a_mutant_meets_tests_that_have_its_devices() -> None:
    assert catalogue.fitting(mutant("any"), TESTS, "here") == ["memory", "paused_guest"]
    assert catalogue.fitting(mutant("vfio"), TESTS, "lab") == ["nvme", "together"]
    assert catalogue.fitting(mutant("vhost-vsock"), TESTS, "lab") == []


def test_the_most_promising_test_comes_first() -> None:
    assert catalogue.fitting(mutant("vhost-net", "multiqueue"), TESTS, "lab")[0] == "vhost_net_multiqueue"
    assert catalogue.fitting(mutant("vhost-net"), TESTS, "lab")[-1] == "vhost_net"  # not in smoke
    assert catalogue.fitting(mutant("paused"), TESTS, "here")[0] == "paused_guest"
    assert catalogue.fitting(mutant("vhost-net"), TESTS, "lab", "together")[0] == "together"
    named = [case("C.test_a", smoke=False), case("f.py:C.test_b", smoke=False), *TESTS]
    written = replace(mutant("any"), test="C.test_b")
    assert catalogue.fitting(written, named, "here")[0] == "f.py:C.test_b"


def test_every_mutant_of_ours_has_a_known_phase_and_is_met_by_a_test_or_listed() -> None:
    assert len(catalogue.mutants()) >= 40
    assert all(m.summary and m.seen for m in catalogue.mutants().values())
    there = {name.rpartition(":")[2] for name in suites.members("full")}
    assert {m.test for m in catalogue.mutants().values()} - {""} <= there


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="scripts/mutants --list"):
        catalogue.chosen(["no-such"])
    with pytest.raises(UsageError, match="no mutant 'no-such'"):
        qemu_source.named("mutants:no-such")
    assert qemu_source.named("./stock") is None
    assert qemu_source.named("stock:x") is None
    assert qemu_source.named("stock") == qemu_source.Name("stock")


def test_a_kill_names_test_and_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reached, missed = tmp_path / "1", tmp_path / "2"
    for directory, words in ((reached, "qemu: cpr fault x-y strikes\n"), (missed, "")):
        directory.mkdir()
        (directory / "source.log").write_text(words)
    blamed = "order: expected stop < release, saw it not [phase release, stop]"
    results = [
        Result("f.py:C.test_one", "PASS", "lab", directory=str(missed)),
        Result("f.py:C.test_two", "FAIL", "lab", directory=str(missed), reason="a flake"),
        Result("f.py:C.test_three", "FAIL", "lab", directory=str(reached), reason=blamed),
    ]
    attempt = {"mutant": "x-y", "phase": "release"}
    verdict = worker._verdict(attempt, results, 1.0)
    assert (verdict.killer, verdict.struck, verdict.phase_named) == ("C.test_three", True, True)
    assert verdict.tried == ["f.py:C.test_one", "f.py:C.test_two", "f.py:C.test_three"]
    assert "test_two failed without the fault: a flake" in capsys.readouterr().out
    survivor = worker._verdict(attempt, results[:2], 1.0)
    assert (survivor.killed, survivor.struck) == (False, False)


def test_the_table_counts_only_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {
        "x-y": Verdict("x-y", True, "f.py:C.test_two", "release", True),
        "x-z": Verdict("x-z", True, "", "", False),
    }
    reference = [Checked("f.py:C.test_two", "here", "clean", "", 1.0, 0.1)]
    wanted = [mutant(), mutant(name="x-z"), mutant(name="new")]
    assert cli._judge(wanted, known, reference, tmp_path / "out.json") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "MUTANTS killed 1 of 3, reference clean: yes"
    assert [entry["name"] for entry in json.loads((tmp_path / "out.json").read_text())["mutants"]] == [
        "x-y",
        "x-z",
    ]


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    monkeypatch.setattr("cprtest.paths.cache_dir", lambda: tmp_path)
    return Book(tmp_path / "build")


def found(book: Book, *lines: Verdict | Checked) -> None:
    directory = Path(tempfile.mkdtemp(dir=book.root))
    text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
    (directory / "verdicts-1.jsonl").write_text(text + '{"mutant": "cut')


def planned(book: Book, *wanted: Mutant, lane: str = "here") -> dict[str, list[str]]:
    todo = Trial(list(wanted), TESTS, book, Settings())._todo(lane)
    return {mutant.name: tests for mutant, tests in todo}


def test_what_workers_left_behind_is_taken_over(book: Book) -> None:
    found(book, Verdict("x-y", True, "", "", False, ["memory"], 2.0))
    again = Book(book.root)
    assert again.verdicts()["x-y"].tried == ["memory"]
    assert planned(again, mutant("any")) == {"x-y": ["paused_guest"]}
    found(again, Verdict("x-y", False, "paused_guest", "", False, ["paused_guest"], 1.0))
    again.collect()
    both = again.verdicts()["x-y"]
    assert (both.killed_by, both.struck, both.tried) == ("paused_guest", True, ["memory", "paused_guest"])
    assert planned(again, mutant("any")) == {}
    again.forget(["x-y"])
    assert planned(again, mutant("any")) == {"x-y": ["paused_guest", "memory"]}  # the killer first


def test_a_test_that_this_host_cannot_run_goes_to_the_lab_and_a_dirty_one_nowhere(book: Book) -> None:
    found(
        book,
        Checked("memory", "here", "cancelled", "no tun", 0.1, 0.0),
        Checked("paused_guest", "here", "failed", "it broke", 0.1, 0.0),
    )
    book.collect()
    assert planned(book, mutant("any")) == {}
    assert planned(book, mutant("any"), lane="lab")["x-y"][0] == "memory"


def test_workers_share_the_tries(tmp_path: Path) -> None:
    tries = [{"name": name} for name in ("a", "b", "c")]
    first, second = worker._taken(tries, tmp_path), worker._taken(tries, tmp_path)
    assert [next(first)["name"], next(second)["name"], next(first)["name"]] == ["a", "b", "c"]
    assert list(second) == []
