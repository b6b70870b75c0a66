# SPDX-License-Identifier: GPL-2.0-or-later
"""report/index.html: one file that needs no network; links lead to the logs beside it."""

import base64
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cprtest.report import evidence
from cprtest.report.model import BAD, RAN_WELL, STATUSES, Result, Results

# A sign for each status, for paper and for those who do not see the colours.
SIGNS = {
    "PASS": "✓",
    "FAIL": "✗",
    "ERROR": "✗",
    "WARN": "△",
    "CANCEL": "\N{EN DASH}",
    "SKIP": "\N{EN DASH}",
    "INTERRUPT": "✗",
}

_SHAPES = ("svg", "style", "defs", "pattern", "marker", "g", "title", "rect", "path", "circle", "text")


def render(results: Results, root: Path) -> str:
    """The text of the report on `results`, whose evidence lies in `root`; it will be in root/report."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        seconds=seconds, milliseconds=milliseconds, figure=figure, link=lambda path: _link(path, root)
    )
    tests = [_shown(number, test, root) for number, test in enumerate(results.tests, 1)]
    return environment.get_template("template.html.j2").render(
        run=results,
        verdict=verdict(results),
        counts={status: count for status, count in results.counts().items() if count},
        signs=SIGNS,
        tests=tests,
        bad=[test for test in tests if test["result"].status in BAD],
        defects=sorted(
            (test for test in tests if test["result"].status == "WARN"),
            key=lambda test: test["result"].defect,
        ),
        with_evidence=[
            test
            for test in tests
            if test["transfers"] or (test["logs"] and test["result"].status not in ("CANCEL", "SKIP"))
        ],
    )


def verdict(results: Results) -> str:
    """The run in one sentence."""
    counts = results.counts()
    words = {
        "PASS": "passed",
        "WARN": "met a known defect of QEMU",
        "FAIL": "failed",
        "ERROR": "ended in an error",
        "INTERRUPT": "did not finish",
        "CANCEL": "could not run here",
        "SKIP": "skipped",
    }
    order = [*BAD, *RAN_WELL, *(s for s in STATUSES if s not in BAD + RAN_WELL)]
    parts = [f"{counts[status]} {words[status]}" for status in order if counts[status]]
    said = ", ".join(parts) or "no test ran"
    if results.exit_status() == 0:
        return f"Nothing failed: {said}."
    if any(counts[status] for status in BAD):
        return f"Not good: {said}."
    return f"Not good, although no test failed: {said}. See the problems below."


def seconds(value: float) -> str:
    """A duration of `value` seconds for people."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{int(value) // 60} min {int(value) % 60:02d} s"


def milliseconds(value: Any) -> str:
    """`value` in ms for people; what was not measured says so."""
    if not isinstance(value, int | float):
        return "not measured"
    return f"{value:.2f} ms"


def figure(drawing: str) -> Markup:
    """An SVG as part of the page, so that it can be zoomed and has tooltips.

    One that is not as cprtest.timeline.draw makes it is shown as an image, which can do nothing to the page.
    """
    if _harmless(drawing):
        return Markup(drawing)
    data = base64.b64encode(drawing.encode()).decode()
    return Markup('<img src="data:image/svg+xml;base64,{}" alt="A drawing that is not ours">').format(data)


def _harmless(drawing: str) -> bool:
    """Whether `drawing` is an SVG of shapes and text only."""
    try:
        root = ET.fromstring(drawing)
    except ET.ParseError:
        return False
    space = "{http://www.w3.org/2000/svg}"
    known = {space + name for name in _SHAPES}
    styles = "".join(part.text or "" for part in root.iter(f"{space}style"))
    return (
        root.tag == f"{space}svg"
        and all(part.tag in known and not any(map(_acts, part.attrib.items())) for part in root.iter())
        and all(rule.strip().startswith(".tl ") for rule in styles.split("}")[:-1])
        and "://" not in styles
    )


def _acts(attribute: tuple[str, str]) -> bool:
    """Whether an attribute of a shape runs a script or fetches something."""
    name, value = attribute
    return name.startswith("on") or "href" in name or "://" in value


def _shown(number: int, test: Result, root: Path) -> dict[str, Any]:
    directory = root / test.directory
    found = evidence.transfers(directory) if test.directory else []
    shown = evidence.telling(found)
    own = evidence.logs(directory) if test.directory else []
    taken = {path for transfer in found for path in transfer.logs}
    return {
        "id": f"t{number}",
        "result": test,
        "transfers": shown,
        "more": len(found) - len(shown),
        "directory": directory,
        "logs": [path for path in own if path not in taken],
    }


def _link(path: Path, root: Path) -> str:
    return os.path.relpath(path, root / "report")
