# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive writer, judged by the host's own unpacker where there is one, else field by field."""

import io
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from cprtest.guest import cpio

ENTRIES = {
    "usr/bin/tool": cpio.file(b"odd length!", 0o755),
    "bin": cpio.symlink("usr/bin"),
    "root": cpio.directory(0o700),
    "dev/console": cpio.character_device(5, 1),
    "empty": cpio.file(b""),
}


def archive() -> bytes:
    stream = io.BytesIO()
    cpio.write(stream, ENTRIES)
    return stream.getvalue()


def test_parents_come_before_their_children_and_keep_a_given_mode() -> None:
    names = list(cpio.with_parents(ENTRIES))
    assert names.index("usr") < names.index("usr/bin") < names.index("usr/bin/tool")
    assert stat.S_IMODE(cpio.with_parents(ENTRIES)["root"].mode) == 0o700


def test_the_same_entries_give_the_same_bytes_in_any_order() -> None:
    stream = io.BytesIO()
    cpio.write(stream, dict(reversed(ENTRIES.items())))
    assert stream.getvalue() == archive()


def test_headers_and_data_are_aligned_and_the_trailer_is_last() -> None:
    data, offset = archive(), 0
    names: list[str] = []
    devices: dict[str, tuple[int, int]] = {}
    while not names or names[-1] != "TRAILER!!!":
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        names.append(data[offset + 110 : offset + 110 + name_size - 1].decode())
        devices[names[-1]] = (fields[9], fields[10])
        body = (offset + 110 + name_size + 3) & ~3
        offset = (body + size + 3) & ~3
    assert not data[offset:].strip(b"\0")
    assert devices["dev/console"] == (5, 1)
    assert set(ENTRIES) < set(names)


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")
def test_busybox_unpacks_it(tmp_path: Path) -> None:
    without_node = {name: entry for name, entry in ENTRIES.items() if name != "dev/console"}
    with (tmp_path / "archive").open("wb") as stream:
        cpio.write(stream, without_node)
    root = tmp_path / "root"
    root.mkdir()
    with (tmp_path / "archive").open("rb") as stream:
        subprocess.run(["busybox", "cpio", "-id"], cwd=root, stdin=stream, check=True, capture_output=True)
    assert (root / "bin/tool").read_bytes() == b"odd length!"
    assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
