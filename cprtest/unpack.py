# SPDX-License-Identifier: GPL-2.0-or-later
"""`qemu-cpr DIR`, from an installed wheel: lay the tree out in DIR, where all commands of the README work.

Tests, sources of the guest's programs, patches and scripts are no Python packages, and results are written
beside them: so the wheel carries the tree as data, and it is used from a directory of its own, as a clone is.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cprtest import manpage
from cprtest.errors import UsageError

PACKAGE = Path(__file__).parent
TREE = PACKAGE / "tree"
"""Everything but the package, in an installed wheel; not there in a checkout."""


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="qemu-cpr",
        description=manpage.description(
            """
            Lay out the suite that was installed with pip in the directory DIR, as a clone of its repository
            would be. All commands of the README work there; begin with scripts/doctor or scripts/run.
            """
        ),
        epilog=manpage.sections(
            exit_status="0  done\n2  wrong command line, DIR is not empty, or this is a checkout already",
            examples="qemu-cpr ~/qemu-cpr && cd ~/qemu-cpr && scripts/run",
        ),
        formatter_class=manpage.Formatter,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="a new or empty directory")
    asked = parser.parse_args(words)
    try:
        unpack(asked.directory)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"The suite is in {asked.directory}; cd there and run scripts/run.")
    return 0


def unpack(directory: Path) -> None:
    """Lay the tree out. Raises UsageError."""
    if not TREE.is_dir():
        raise UsageError(f"This is no installed wheel: {PACKAGE.parent} is a checkout, use it as it is.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty; name a new directory.")
    try:
        for source, target in ((TREE, directory), (PACKAGE, directory / "cprtest")):
            shutil.copytree(source, target, ignore=_left_out, dirs_exist_ok=True)
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror}.") from None


def _left_out(path: str, names: list[str]) -> set[str]:
    """What is not copied: the tree, no part of the package, and .pyc files of where it was installed."""
    return {name for name in names if name == "__pycache__" or Path(path) / name == TREE}


if __name__ == "__main__":
    sys.exit(main())
