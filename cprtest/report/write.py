# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing results.json, .xml, .tap and report/index.html; a file that cannot be written is a problem."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

from cprtest.report import html, junit, tap
from cprtest.report.model import Results

REPORT = Path("report") / "index.html"


def write(results: Results, root: Path, against: Path | None = None) -> Results:
    """Write all files into the results directory `root`. against: an earlier run's, to compare with.

    Returns the results, with a problem added for each file that could not be written; results.json is
    written last and has them too. Raises OSError when not even that one can be written.
    """
    (root / REPORT).parent.mkdir(parents=True, exist_ok=True)
    renderers: list[tuple[Path, Callable[[Results], str]]] = [
        (Path("results.xml"), junit.render),
        (Path("results.tap"), tap.render),
        (REPORT, lambda r: html.render(r, root, against)),
    ]
    for name, render in renderers:
        try:
            _replace(root / name, render(results))
        except Exception as error:
            traceback.print_exc()
            results = results.with_problem(f"{name} could not be written: {type(error).__name__}: {error}")
    write_json(results, root)
    return results


def write_json(results: Results, root: Path) -> None:
    """Write results.json into the results directory `root`."""
    _replace(root / "results.json", json.dumps(results.as_json(), indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
