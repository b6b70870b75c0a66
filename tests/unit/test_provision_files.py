# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole or not at all: directories, files, downloads; and one set-up at a time."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cprtest.errors import CprError
from cprtest.provision import files

HOLDER = (
    "from cprtest.provision import files\nwith files.locked('t'):\n print('held', flush=True)\n input()\n"
)
HALF = """
import sys, pathlib
from cprtest.provision import files
with files.new_directory(pathlib.Path(sys.argv[1])) as scratch:
    (scratch / "half").write_text("x")
    print("writing", flush=True)
    input()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qemu-cpr"


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_set_up_waits_and_says_so(cache: Path) -> None:
    with python(HOLDER) as first:
        assert first_line(first) == "held"
        with python(HOLDER) as second:
            assert second.stderr is not None
            assert str(cache / "t.lock") in second.stderr.readline()
            first.communicate("\n")
            assert first_line(second) == "held"
            second.communicate("\n")


def test_a_killed_set_up_frees_the_lock(cache: Path) -> None:  # noqa: ARG001
    with python(HOLDER) as first:
        assert first_line(first) == "held"
        first.kill()
    with python(HOLDER) as second:
        assert first_line(second) == "held"
        assert second.communicate("\n")[1] == ""


def test_a_directory_appears_only_whole(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with pytest.raises(RuntimeError), files.new_directory(final) as scratch:
        (scratch / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with files.new_directory(final) as scratch:
        (scratch / "whole").touch()
        assert not final.exists()
    assert [path.name for path in final.iterdir()] == ["whole"]


def test_a_directory_being_made_when_killed_never_appears(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with python(HALF, str(final)) as process:
        assert first_line(process) == "writing"
        process.send_signal(signal.SIGKILL)
    assert not final.exists()
    files.remove_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "record"
    files.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_atomically(path, "new \udc80")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_sha256_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "source.tar.xz"
    path.write_bytes(b"evil")
    with pytest.raises(CprError, match=r"source\.tar\.xz: SHA-256 is [0-9a-f]{64}, expected 0000"):
        files.verify_sha256(path, "0000")
    assert not path.exists()


def test_the_right_sha256_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "source.tar.xz"
    path.write_bytes(b"good")
    files.verify_sha256(path, hashlib.sha256(b"good").hexdigest())
    assert path.exists()


def test_digest_changes_with_every_part(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_text("1")
    one = files.digest(["a", path])
    path.write_text("2")
    assert len({one, files.digest(["a", path]), files.digest(["b", path]), files.digest(["a2"])}) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", None])
def test_an_unreadable_record_is_no_record(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "record.json"
    if text is not None:
        path.write_text(text)
    assert files.read_record(path, "release") is None
