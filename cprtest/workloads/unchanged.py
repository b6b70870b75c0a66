# SPDX-License-Identifier: GPL-2.0-or-later
"""What a target must leave alone as it takes a device over is read before and after, and compared."""

from collections.abc import Mapping

from cprtest.errors import Damage


def assert_unchanged(before: Mapping[str, str], now: Mapping[str, str], whose: str = "") -> None:
    """Raises Damage naming every place that holds something else. whose: said before them."""
    wrong = [
        f"{name} was {was} and is {now.get(name)}" for name, was in before.items() if now.get(name) != was
    ]
    if wrong:
        raise Damage(whose + ", ".join(wrong), "acquire")
