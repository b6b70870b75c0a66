# SPDX-License-Identifier: GPL-2.0-or-later
"""Known defects excuse exactly one test, on the versions named, with the signature named."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cprtest import paths
from cprtest import test as functional
from cprtest.defects import Defect, known_defects
from cprtest.provision.installed import Qemu

DEFECT = Defect("D-009", "breaks", ("Some.test_it",), ((10, 1), (11, 1)), "killed by SIGSEGV", None)


@pytest.mark.parametrize(
    ("version", "concerned"),
    [((10, 0, 13), False), ((10, 1, 0), True), ((10, 2, 2), True), ((11, 1, 3), True), ((11, 2, 0), False)],
)
def test_version_range_includes_both_ends(version: tuple[int, ...], concerned: bool) -> None:
    assert DEFECT.concerns("Some.test_it", version, frozenset()) is concerned


def test_other_tests_are_not_excused() -> None:
    assert not DEFECT.concerns("Some.test_other", (10, 2, 2), frozenset())


def test_a_build_that_has_the_remedy_must_pass() -> None:
    fixed = replace(DEFECT, lacks="tap-cpr")
    assert not fixed.concerns("Some.test_it", (10, 2, 2), frozenset({"tap-cpr"}))
    assert fixed.concerns("Some.test_it", (10, 2, 2), frozenset())


def test_other_failures_are_not_excused() -> None:
    assert DEFECT.explains("source QEMU ended, killed by SIGSEGV; its last words: none")
    assert not DEFECT.explains("source QEMU ended, killed by SIGABRT")


def test_a_defect_that_is_gone_fails_a_release_and_not_a_build_of_somebodys(tmp_path: Path) -> None:
    release = paths.cache_dir() / "qemu" / "stock-10.2.2-abc" / "bin" / "qemu-system-x86_64"
    own = tmp_path / "qemu"
    for source, target, said in (
        (release, release, ["D-009 no longer reproduces, remove it"]),
        (own, own, []),
        (release, own, []),
    ):
        log = SimpleNamespace(info=lambda *_: None)
        bed = SimpleNamespace(qemu=Qemu(source), target_qemu=Qemu(target))
        test = SimpleNamespace(bed=bed, promise="Some.test_it", log=log)
        assert functional.CprTest.no_longer(test, [DEFECT]) == said  # type: ignore[arg-type]
        assert functional.CprTest.no_longer(test, [replace(DEFECT, intermittent=("Some.test_it",))]) == []  # type: ignore[arg-type]


def test_a_defect_of_either_side_is_expected() -> None:
    name = "Ordering.test_source_stops_before_handover"
    old, new = (SimpleNamespace(version=version, names=frozenset()) for version in ((10, 2, 2), (99, 0, 0)))
    for sides in ([old, new], [new, old]):
        test = SimpleNamespace(bed=SimpleNamespace(abilities=sides), promise=name)
        assert [defect.id for defect in functional.CprTest.defects(test)] == ["D-003"]  # type: ignore[arg-type]
    test = SimpleNamespace(bed=SimpleNamespace(abilities=[new, new]), promise=name)
    assert functional.CprTest.defects(test) == []  # type: ignore[arg-type]


def test_entries_name_tests_that_exist() -> None:
    written = "\n".join(path.read_text() for path in (paths.CHECKOUT / "tests" / "functional").glob("*.py"))
    for defect in known_defects():
        for name, method in (test.split(".") for test in defect.tests):
            assert f"class {name}(" in written and f"def {method}(" in written, defect.id
        assert re.fullmatch(r"D-\d{3}", defect.id)
    assert len({defect.id for defect in known_defects()}) == len(known_defects())
