# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tests are tried against which mutant, and what counts as killed."""

import json
from pathlib import Path

import pytest

from cprtest.errors import UsageError
from cprtest.mutants import catalogue, cli, worker
from cprtest.mutants.catalogue import Mutant, Test
from cprtest.provision import qemu_source
from cprtest.report.model import Result


def case(name: str, *needs: str) -> Test:
    return Test(name, needs, frozenset(" ".join([name, *needs]).replace(":", " ").replace("_", " ").split()))


TESTS = [
    case("memory", "qemu:cpr-transfer"),
    case("paused_guest"),
    case("vhost_net", "kvm", "vhost-net"),
    case("vhost_net_multiqueue", "kvm", "vhost-net"),
    case("nvme", "kvm", "vfio:nvme"),
    case("together", "kvm", "vhost-net", "vfio:nvme"),
]


def mutant(*needs: str, name: str = "x-y") -> Mutant:
    return Mutant(name, "release", "", "", needs=needs)


def test_a_mutant_meets_tests_that_have_its_devices() -> None:
    assert catalogue.fitting(mutant("any"), TESTS, 9) == ["memory", "paused_guest"]
    assert catalogue.fitting(mutant("vfio"), TESTS, 9) == ["nvme", "together"]
    assert catalogue.fitting(mutant("vhost-vsock"), TESTS, 9) == []


def test_the_best_fitting_test_comes_first() -> None:
    assert catalogue.fitting(mutant("vhost-net", "multiqueue"), TESTS, 1) == ["vhost_net_multiqueue"]
    assert catalogue.fitting(mutant("paused"), TESTS, 1) == ["paused_guest"]


def test_every_mutant_of_ours_has_a_known_phase_and_is_met_by_a_test_or_listed() -> None:
    assert len(catalogue.mutants()) >= 40
    assert all(m.summary and m.seen for m in catalogue.mutants().values())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="scripts/mutants --list"):
        catalogue.chosen(["no-such"])
    with pytest.raises(UsageError, match="no mutant 'no-such'"):
        qemu_source.named("mutants:no-such")
    assert qemu_source.named("./stock") is None
    assert qemu_source.named("stock:x") is None
    assert qemu_source.named("stock") == qemu_source.Name("stock")


def test_a_kill_names_test_and_phase(tmp_path: Path) -> None:
    logs = tmp_path / "job-1" / "test-results" / "1"
    logs.mkdir(parents=True)
    (logs / "source.log").write_text("qemu: cpr fault x-y strikes\n")
    results = [
        Result("f.py:C.test_one", "PASS", "lab"),
        Result(
            "f.py:C.test_two",
            "FAIL",
            "lab",
            reason="order: expected stop < release, saw it not [phase release, stop]",
        ),
        Result("f.py:C.test_three", "INTERRUPT", "lab", reason="It had not begun."),
    ]
    verdict = worker._verdict("x-y", "release", results, tmp_path, 1.0)
    assert (verdict.killed_by, verdict.struck, verdict.phase_named, verdict.ran) == (
        "C.test_two",
        True,
        True,
        2,
    )
    survivor = worker._verdict("x-z", "release", results[:1], tmp_path, 1.0)
    assert (survivor.killed, survivor.struck) == (False, False)


def test_the_table_counts_only_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {
        "reference-here": worker.Verdict("reference-here", False, "", "", False, 7, 1.0),
        "x-y": worker.Verdict("x-y", True, "C.test_two", "release", True, 1, 1.0),
        "x-z": worker.Verdict("x-z", True, "", "", False, 1, 1.0),
    }
    status = cli._judge([mutant(), mutant(name="x-z"), mutant(name="new")], known, tmp_path / "out.json")
    assert status == 1
    assert capsys.readouterr().out.splitlines()[-1] == "MUTANTS killed 1 of 3, reference clean: yes"
    assert [entry["name"] for entry in json.loads((tmp_path / "out.json").read_text())["mutants"]] == [
        "x-y",
        "x-z",
    ]
