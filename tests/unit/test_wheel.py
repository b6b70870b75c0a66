# SPDX-License-Identifier: GPL-2.0-or-later
"""The wheel: what it unpacks to is the checkout, file for file."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cprtest import paths, unpack
from cprtest.errors import UsageError


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the installed package."""
    base = tmp_path_factory.mktemp("wheel")
    # Built from a copy, so that no build directory is left in the checkout.
    files = subprocess.run(
        ["git", "-C", paths.CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    source = base / "source"
    for name in filter(None, files):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((paths.CHECKOUT / name).read_bytes())
        path.chmod((paths.CHECKOUT / name).stat().st_mode)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*build, "-w", str(base), str(source)], check=True, timeout=120, cwd=base)
    (wheel,) = base.glob("qemu_cpr-1.0.0-*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target"]
    subprocess.run([*install, str(base / "site"), str(wheel)], check=True, timeout=120)
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "__pycache__" in name]
    return base


def test_unpacked_it_is_the_checkout(installed: Path) -> None:
    tree = installed / "tree"
    environment = {**os.environ, "PYTHONPATH": str(installed / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-m", "cprtest.unpack", str(tree)]
    subprocess.run(command, check=True, env=environment, cwd=installed, timeout=60)
    source = installed / "source"
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    # What pip itself leaves in the directory that it builds in.
    wanted = {path for path in wanted if path.parts[0] != "build" and "egg-info" not in path.parts[0]}
    found = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    assert found == wanted
    for path in wanted:
        assert (tree / path).read_bytes() == (source / path).read_bytes(), path
        assert os.access(tree / path, os.X_OK) == os.access(source / path, os.X_OK), path


def test_a_checkout_and_a_full_directory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is a checkout"):
        unpack.unpack(tmp_path / "new")
    monkeypatch.setattr(unpack, "TREE", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        unpack.unpack(tmp_path)
