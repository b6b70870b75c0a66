# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/merge`: one report of the results of several machines."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cprtest import manpage
from cprtest.errors import UsageError, exit_status
from cprtest.report import compare, machines
from cprtest.report.write import REPORT, write

_HELP = manpage.description(
    """
    Make one report of the results of several machines.

    Name the directory (`scripts/run --results DIR`) of every machine that was to run, also of one from
    which nothing came: a machine that is missing, or whose run was killed half way, is shown as such and
    makes the merged result a failure. What had ended by then is read from the journals in its directory.
    One directory alone is fine, too: its report is written anew.
    """
)
_EPILOG = manpage.sections(
    files="""
        DIR/results.json, results.xml, results.tap, report/index.html
            as of a run (docs/results.md); `machines` says what came from where. Evidence is embedded in the
            report as far as there is room, and stays where it is: links lead to the machines' own
            directories.
        """,
    exit_status="""
        0  every machine's run came to its end, at least one test ran, and nothing failed
        1  otherwise
        2  wrong command line, or nothing to merge
        """,
    examples="scripts/merge results/host-a results/host-b --output results/all --against results/last-week",
)


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/merge",
        description=_HELP,
        epilog=_EPILOG,
        formatter_class=manpage.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="results of one machine")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the merged results go (default: results/merged-TIME-PID)",
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="the results of an earlier run, to compare with"
    )
    asked = parser.parse_args(words)
    return exit_status(lambda: _merge(asked.results, asked.output, asked.against), "Interrupted.")


def _merge(directories: Sequence[Path], output: Path | None, against: Path | None) -> int:
    root = output or Path("results") / f"merged-{datetime.now():%Y-%m-%dT%H-%M-%S}-{os.getpid()}"
    if root.resolve() in [directory.resolve() for directory in directories]:
        raise UsageError(f"--output {root}: this is one of the directories to merge; choose another one.")
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise UsageError("A directory is named twice; its results would count twice.")
    if against is not None:
        compare.earlier(against)
    parts = [machines.read(directory) for directory in directories]
    command = ("scripts/merge", *map(str, directories))
    results = machines.together(parts, root, command)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {root}: {error.strerror}; choose another directory.") from None
    results = write(results, root, against)
    for sentence in results.problems:
        print(f"Problem: {sentence}")
    print(results.summary(str(root / REPORT)))
    return results.exit_status()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
