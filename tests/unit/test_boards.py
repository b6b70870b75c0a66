# SPDX-License-Identifier: GPL-2.0-or-later
from types import SimpleNamespace
from typing import Any

import pytest

from cprtest.errors import CprError
from cprtest.machine.boards import shared


def qemu(*versions: str) -> Any:
    """A QEMU with these versions of q35, the last of which is its newest."""
    names = {f"pc-q35-{version}": f"pc-q35-{version}" for version in versions}
    return SimpleNamespace(text=versions[-1], machines={**names, "q35": f"pc-q35-{versions[-1]}"})


OLD, NEW, NEWER = qemu("9.2", "10.0"), qemu("9.2", "10.0", "10.2"), qemu("10.0", "10.2", "11.1")


@pytest.mark.parametrize("qemus", [[OLD], [NEW, NEW, NEW]])
def test_equal_qemus_keep_the_name(qemus: list[Any]) -> None:
    assert shared("q35", qemus) == "q35"


@pytest.mark.parametrize(
    ("qemus", "expected"),
    [
        ([OLD, NEW], "pc-q35-10.0"),
        ([NEW, OLD], "pc-q35-10.0"),
        ([NEW, NEWER, NEW], "pc-q35-10.2"),
        ([OLD, NEWER, NEW], "pc-q35-10.0"),
    ],
)
def test_the_newest_that_all_know(qemus: list[Any], expected: str) -> None:
    assert shared("q35", qemus) == expected


def test_a_version_that_was_named_stays() -> None:
    assert shared("pc-q35-9.2", [OLD, NEWER]) == "pc-q35-9.2"


def test_none_in_common() -> None:
    with pytest.raises(
        CprError, match=r"The QEMUs \(9.0, 11.1\) have no q35 in common: pc-q35-11.1, pc-q35-9.0"
    ):
        shared("q35", [qemu("9.0"), NEWER])
