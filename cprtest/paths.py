# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things live. Standard library only: scripts/setup runs before there is a venv."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ASSETS = CHECKOUT / "assets"
VENV = CHECKOUT / ".venv"


def cache_dir() -> Path:
    """The one directory outside the checkout that is written to, created if need be.

    ${XDG_CACHE_HOME:-~/.cache}/qemu-cpr. A relative XDG_CACHE_HOME is ignored,
    as the XDG base directory specification demands.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = base if base.is_absolute() else Path.home() / ".cache"
    path = root / "qemu-cpr"
    path.mkdir(parents=True, exist_ok=True)
    return path


def lane() -> str:
    """The lane this process runs in: "here" (the host as it is) or "lab" (see cprtest.lab)."""
    return os.environ.get("CPRTEST_LANE", "here")


def or_in_lab(how: str) -> str:
    """A sentence: `how` to get here what is missing, or that the lab has it.

    Where the lab's turn comes anyway (lane auto) nobody has to do anything.
    """
    if lane() == "lab":
        return f"{how}."
    if os.environ.get(LAB_FOLLOWS):
        return "The lab has it; there it runs next."
    return f"{how}, or run in the lab (scripts/run --lane lab)."


LAB_FOLLOWS = "CPRTEST_LAB_FOLLOWS"
"""Set in the environment of a job here whose cancelled tests run in the lab afterwards."""
