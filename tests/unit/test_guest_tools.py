# SPDX-License-Identifier: GPL-2.0-or-later
"""The tools disk: the same contents are the same disk, others another."""

from pathlib import Path

import pytest

from cprtest.guest import GuestError, cpio, image, tools

FILES = {"bin/fio": cpio.file(b"fio", 0o755), "lib/libc.so.6": cpio.file(b"libc", 0o755)}


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tools.write(FILES, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_failure_is_told_in_the_words_of_mkfs(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    with pytest.raises(GuestError, match=r"mkfs\.erofs.*ended with status"):
        tools.write(FILES, tmp_path / "image")


def test_the_image_has_another_name_when_only_the_tools_changed() -> None:
    other = {**FILES, "bin/fio": cpio.file(b"newer", 0o755)}
    assert image.identity({}, FILES) != image.identity({}, other)
