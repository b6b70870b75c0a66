# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans: their text repeats them, the search is told by its seed, and makes small what it finds."""

import pytest

from cprtest.errors import UsageError
from cprtest.explore.plan import KINDS, Lengths, Plan, Step
from cprtest.explore.search import Found, search

NETS = ("", "tap")


def played(seed: int, seconds: float = 0.0) -> list[Plan]:
    plans: list[Plan] = []
    search(plans.append, NETS, seed, seconds)
    return plans


def test_a_seed_gives_the_same_plans_again() -> None:
    assert played(5) == played(5)
    assert played(5) != played(6)


def test_the_text_of_a_plan_is_the_plan() -> None:
    for plan in played(3):
        assert Plan.parse(str(plan)) == plan
        assert plan.net in NETS


def test_every_fault_can_be_made_at_every_place() -> None:
    for kind, make in KINDS.items():
        names = {make(place, Lengths(main=150_000, cpr=600)).name for place in (0, 500, 999)}
        assert all(names), kind


def test_a_failure_is_made_small() -> None:
    def play(plan: Plan) -> None:
        if any(step.kind == "cut" and step.place > 300 for step in plan.steps):
            raise AssertionError("the guest is lost [phase rollback]")

    with pytest.raises(Found, match=r"repeat it with scripts/run explore --plan 1vcpu/cut:301$") as found:
        search(play, NETS, 1, 5.0)
    assert str(found.value).startswith("the guest is lost [phase rollback]")


def test_an_error_of_the_search_itself_is_no_finding() -> None:
    def play(plan: Plan) -> None:
        raise ZeroDivisionError(str(plan))

    with pytest.raises(ZeroDivisionError):
        search(play, NETS, 1, 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1vcpu", "has no transfer"),
        ("1vcpu,floppy/clean", "no 'floppy'"),
        ("1vcpu,echo/clean", "echo needs tap or vhost"),
        ("1vcpu/moon:1", "no fault 'moon'"),
        ("1vcpu/cut:1000", "0 to 999"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Plan.parse(text)


def test_a_step_knows_whether_the_guest_is_paused() -> None:
    assert Step.parse("paused-cut:12") == Step("cut", 12, True)
    assert str(Step("cut", 12, True)) == "paused-cut:12"
