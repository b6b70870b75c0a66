# SPDX-License-Identifier: GPL-2.0-or-later
"""Which modules go into the guest, and in what order they are loaded."""

import lzma
from pathlib import Path

import pytest

from cprtest.guest import GuestError
from cprtest.guest.modules import WANTED, Index

DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/drivers/virtio-rng.ko.xz: kernel/lib/crc16.ko.xz
"""


@pytest.fixture
def index(tmp_path: Path) -> Index:
    (tmp_path / "modules.dep").write_text(DEP)
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (tmp_path / "kernel/lib").mkdir(parents=True)
    (tmp_path / "kernel/lib/crc16.ko.xz").write_bytes(lzma.compress(b"\x7fELF"))
    return Index.read(tmp_path)


def test_dependencies_come_first_and_once(index: Index) -> None:
    order = index.in_load_order(["ext4", "virtio_rng"])
    assert order == ["jbd2", "crc16", "ext4", "virtio_rng"]


def test_built_in_modules_are_left_out(index: Index) -> None:
    assert index.in_load_order(["virtio_pci"]) == []


def test_a_module_the_kernel_lacks_is_named(index: Index) -> None:
    with pytest.raises(GuestError, match="no module igb"):
        index.in_load_order(["igb"])


def test_modules_are_decompressed(index: Index) -> None:
    assert index.contents("crc16") == b"\x7fELF"


def test_modprobes_index_is_flat(index: Index) -> None:
    names = index.in_load_order(["ext4"])
    assert "ext4.ko: jbd2.ko crc16.ko\n" in index.dep_file(names)


def test_missing_indexes_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="run depmod"):
        Index.read(tmp_path)


def test_a_crc32c_is_there_before_libcrc32c_is_loaded_for_erofs() -> None:
    assert WANTED.index("crc32c_generic") < WANTED.index("erofs")


def test_a_module_that_newer_kernels_do_without_is_left_out(index: Index) -> None:
    assert index.in_load_order(["crc32c_generic"]) == []
