# SPDX-License-Identifier: GPL-2.0-or-later
"""A file that is no QEMU we can test is told in one sentence. Functional tests see the real ones."""

import os
import shutil
import time
from pathlib import Path

import pytest
from monitors import answers, monitor, script

from cprtest.errors import UsageError
from cprtest.machine.features import Features, build_id, features


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_files_that_are_no_qemu(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    for path, complaint in (
        (tmp_path / "missing", "No such file"),
        (tmp_path, "is a directory"),
        (plain, "is not executable"),
        (Path("/bin/true"), "does not behave like QEMU"),
        (script(tmp_path / "talker", "#!/bin/sh\necho 'no such option' >&2\n"), "It said: no such option"),
        (script(tmp_path / "broken", "\x7fELF"), "cannot be started|does not behave"),
    ):
        began = time.monotonic()
        with pytest.raises(UsageError, match=complaint) as caught:
            features(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert time.monotonic() - began < 2


def test_too_old(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is QEMU 7\.2\.0; cpr-transfer came with 10\.0"):
        features(monitor(tmp_path / "qemu", answers(7, 2, [])))


def test_built_without_cpr_transfer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without the migration mode cpr-transfer"):
        features(monitor(tmp_path / "qemu", answers(10, 0, ["normal"])))


def test_dies_while_being_asked(tmp_path: Path) -> None:
    dies = script(tmp_path / "qemu", "#!/bin/sh\necho '{\"QMP\": {}}'\nread line\n")
    with pytest.raises(UsageError, match="ended before it had answered"):
        features(dies)


def test_vfio_cpr_is_told_by_the_trace_event_or_the_version(tmp_path: Path) -> None:
    modes = ["normal", "cpr-transfer"]
    assert not features(monitor(tmp_path / "a", answers(10, 0, modes))).has("vfio-cpr")
    assert features(monitor(tmp_path / "b", answers(10, 1, modes))).has("vfio-cpr")
    backport = {**answers(10, 0, modes), "trace-event-get-state": [{"name": "vfio_cpr_find_device"}]}
    assert features(monitor(tmp_path / "c", backport)).has("vfio-cpr")


def test_rebuilt_binary_is_asked_again(tmp_path: Path) -> None:
    path = monitor(tmp_path / "qemu", answers(10, 0, ["cpr-transfer"]))
    assert features(path).version == (10, 0, 0)
    monitor(path, answers(10, 2, ["cpr-transfer"]))
    os.utime(path, ns=(1, 1))
    assert features(path).version == (10, 2, 0)


@pytest.mark.parametrize(
    ("word", "has"),
    [("10.1", True), ("10.2.3", False), ("11", False), ("9.2", True), ("kvm", True), ("foo", False)],
)
def test_words(word: str, has: bool) -> None:
    empty: frozenset[str] = frozenset()
    found = Features("x86_64", (10, 2, 2), "10.2.2", None, empty, frozenset({"kvm"}), empty, empty, {})
    assert found.has(word) == has


def test_build_id_of_a_real_program() -> None:
    program = shutil.which("sh")
    assert program
    found = build_id(Path(program))
    assert found is None or (len(found) >= 16 and int(found, 16))
    assert build_id(Path(__file__)) is None
