# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test's end is called when an observer that it rests on was lost."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cprtest import test as functional
from cprtest.errors import CprError


def judged(tmp_path: Path, passes: bool) -> None:
    """Run a test's body whose gate's supervisor is dead."""

    class Body(functional.CprTest):
        def test(self) -> None:
            if not passes:
                raise AssertionError("the guest is gone")

    def lost() -> None:
        raise CprError("the supervisor ended")

    test = Body("test", base_logdir=str(tmp_path))
    test._bed = cast(Any, SimpleNamespace(intact=lost, abilities=[], machines=[], outcomes=[]))
    test.test()


@pytest.mark.parametrize("passes", [True, False])
def test_a_lost_observer_is_an_error_whatever_the_test_says(
    passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functional, "known_defects", tuple)
    with pytest.raises(CprError, match="the supervisor ended"):
        judged(tmp_path, passes)
