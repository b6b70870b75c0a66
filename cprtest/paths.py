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
