# SPDX-License-Identifier: GPL-2.0-or-later
"""report/index.html: one file that needs no network.

What a run came to is in the page as it is, the matrix and the evidence are data that its script shows
(pack.py); links lead to the logs beside it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cprtest import paths
from cprtest.report import compare, evidence, pack
from cprtest.report.figure import picture, pictures
from cprtest.report.model import BAD, RAN_WELL, STATUSES, Result, Results

# A sign for each status, for paper and for those who do not see the colours.
SIGNS = {
    "PASS": "✓",
    "FAIL": "✗",
    "ERROR": "!",
    "WARN": "△",
    "CANCEL": "\N{EN DASH}",
    "SKIP": "\N{MIDDLE DOT}",
    "INTERRUPT": "⊘",
}

_FIRST = 100
"""So many different failures are told in the page itself, for readers without scripts; the matrix has all."""


def render(results: Results, root: Path, against: Path | None = None) -> str:
    """The text of the report on `results`, whose evidence lies in `root`; it will be in root/report.

    against: the results directory of an earlier run. Raises UsageError if there are no results in it.
    """
    then = compare.earlier(against) if against else None
    changes = compare.changes(results, then) if then else []
    kinds = {change.number: change.kind for change in changes if change.number}
    evidences = pack.evidences(results, root, kinds)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(seconds=seconds)
    failures = _failures(results)
    return environment.get_template("template.html.j2").render(
        run=results,
        verdict=verdict(results),
        counts={status: count for status, count in results.counts().items() if count},
        signs=SIGNS,
        statuses=Markup(pack.packed(SIGNS)),
        machines=results.machines or (results.machine(results.host.get("name", "this host"), ""),),
        failures=failures[:_FIRST],
        failures_more=sum(len(tests) for tests in failures[_FIRST:]),
        then=then,
        against=against,
        changes=changes,
        groups=[(kind, said, [c for c in changes if c.kind == kind]) for kind, said in compare.KINDS.items()],
        defects=_defects(results),
        plots=[picture(path) for path in pictures(root / "downtime")],
        index=Markup(pack.index(results, kinds, evidences)),
        evidences={number: Markup(text) for number, text in evidences.items()},
        counts_of=lambda name: _counts(results, name),
        style=_part("style.css"),
        script=Markup("\n").join(map(_part, ("drawing.js", "card.js", "report.js"))),
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
    if lost := [machine.name for machine in results.machines if not machine.finished]:
        said += f"; {len(lost)} of {len(results.machines)} machines vanished: {', '.join(lost)}"
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


def _part(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text())


def _counts(results: Results, machine: str) -> list[tuple[str, int]]:
    """How many tests ended in which status on a machine, those that there are."""
    found = Counter(test.status for test in results.tests if test.host == machine)
    return [(status, found[status]) for status in STATUSES if found[status]]


def _failures(results: Results) -> list[list[tuple[int, Result]]]:
    """The tests that failed, with their numbers; those of one test that failed in the same way together."""
    groups: dict[tuple[str, str, str], list[tuple[int, Result]]] = {}
    for number, test in enumerate(results.tests, 1):
        if test.status in BAD:
            key = (test.name.partition(";")[0], test.status, test.reason)
            groups.setdefault(key, []).append((number, test))
    return list(groups.values())


def _defects(results: Results) -> list[dict[str, Any]]:
    """The known defects: those that were met first, with who met them; then the others of the list."""
    met: dict[str, list[tuple[int, str]]] = {}
    for number, test in enumerate(results.tests, 1):
        if test.status == "WARN":
            met.setdefault(test.defect, []).append((number, test.name))
    known = evidence.defects()
    reasons = {test.defect: test.reason for test in results.tests if test.status == "WARN"}
    return [
        {
            "id": ident or "no id",
            "summary": known.get(ident) or reasons.get(ident, ""),
            "met": met.get(ident, []),
            "finding": _finding(ident),
        }
        for ident in [*sorted(met), *sorted(set(known) - set(met))]
    ]


def _finding(ident: str) -> str:
    """The page on a defect as it is in docs/findings, or nothing."""
    try:
        return (paths.CHECKOUT / "docs" / "findings" / f"{ident}.md").read_text()
    except OSError:
        return ""
