# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test left in its directory: its transfers, its logs, the known defect it met.

Reads what is there. A file that is missing is not mentioned; one that cannot be read is, so that the
report can be written whatever state a test's directory is in.
"""

import ast
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cprtest import paths

_LOGS = (
    "debug.log", "runner.log", "events.jsonl", "qmp.log", "source.log", "target.log", "console.log",
    "timeline.json", "outcome.json",
)  # fmt: skip
_SHOWN = 3


@dataclass
class Transfer:
    """One transfer's evidence. directory: where it is; place: among the test's transfers, as "2 of 5";
    timeline, outcome: the files' contents."""

    directory: Path
    place: str = ""
    timeline: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    drawing: str = ""
    unreadable: list[str] = field(default_factory=list)

    @property
    def phases(self) -> list[tuple[str, float, float]]:
        """Name, start and length of each phase in ms, in order of time, from the start of the first."""
        spans = [(name, span) for name, span in _dict(self.timeline.get("phases")).items() if _is_span(span)]
        spans.sort(key=lambda item: item[1]["start"])
        first = spans[0][1]["start"] if spans else 0
        return [
            (name, (span["start"] - first) / 1e6, (span["end"] - span["start"]) / 1e6) for name, span in spans
        ]

    @property
    def downtime(self) -> dict[str, float | None]:
        """What was measured as downtime, by what it was seen on, in ms."""
        measured = _dict(self.timeline.get("downtime")).items()
        return {name: ns / 1e6 if isinstance(ns, int | float) else None for name, ns in measured}

    @property
    def qemu(self) -> dict[str, Any]:
        """Version of QEMU by side."""
        return _dict(self.timeline.get("qemu"))

    @property
    def violations(self) -> list[str]:
        """The violated invariants, in words."""
        return [str(sentence) for sentence in _list(self.timeline.get("violations"))]

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The faults that were injected."""
        return [entry for entry in _list(self.outcome.get("faults")) if isinstance(entry, dict)]

    @property
    def checks(self) -> list[dict[str, Any]]:
        """What was checked, and whether it held."""
        return [entry for entry in _list(self.outcome.get("checks")) if isinstance(entry, dict)]

    @property
    def wrong(self) -> bool:
        """Whether its timeline or a check speaks against it."""
        return bool(self.violations or self.unreadable) or not all(check.get("ok") for check in self.checks)

    @property
    def ownership(self) -> list[dict[str, Any]]:
        """Who owned which device when; times in ms from the start of the first phase."""
        starts = [span["start"] for span in _dict(self.timeline.get("phases")).values() if _is_span(span)]
        first = min(starts, default=0)
        owned = [dict(entry) for entry in _list(self.timeline.get("ownership")) if isinstance(entry, dict)]
        for entry in owned:
            for edge in ("start", "end"):
                if isinstance(entry.get(edge), int | float):
                    entry[edge] = (entry[edge] - first) / 1e6
        return owned

    @property
    def logs(self) -> list[Path]:
        """The files a reader may want to look into."""
        return [self.directory / name for name in _LOGS if (self.directory / name).is_file()]


def transfers(directory: Path) -> list[Transfer]:
    """The transfers of the test whose directory this is: in it, or in directories below it."""
    if not directory.is_dir():
        return []
    found = {path.parent for name in ("timeline.json", "outcome.json") for path in directory.rglob(name)}
    made = [_transfer(path) for path in sorted(found, key=_natural)]
    for number, transfer in enumerate(made, 1):
        transfer.place = f"{number} of {len(made)}" if len(made) > 1 else ""
    return made


def telling(found: list[Transfer]) -> list[Transfer]:
    """The transfers that a report shows, at most three: those with something wrong, the last, the first.

    A page with each of a thousand timelines would be of no use; all are in the test's directory.
    """
    wrong = [transfer for transfer in found if transfer.wrong]
    chosen = dict.fromkeys(id(transfer) for transfer in [*wrong, *found[-1:], *found[:1], *found[1:]])
    kept = list(chosen)[:_SHOWN]
    return [transfer for transfer in found if id(transfer) in kept]


def logs(directory: Path) -> list[Path]:
    """The log files of the test itself."""
    return Transfer(directory).logs if directory.is_dir() else []


def known_defect(directory: Path) -> tuple[str, str]:
    """Id of the known defect that the test met, and the sentence about it; empty when there is none."""
    for transfer in transfers(directory):
        if ident := transfer.outcome.get("known_defect"):
            return str(ident), defects().get(str(ident), f"known defect {ident}")
    return "", ""


def promise_of(name: str) -> str:
    """The first line of the docstring of test `name` (FILE:Class.method), or of its class; may be empty."""
    file, _, test = name.partition(";")[0].partition(":")
    owner, _, method = test.partition(".")
    docstrings = _docstrings(paths.CHECKOUT / file)
    return docstrings.get((owner, method)) or docstrings.get((owner, "")) or ""


def _transfer(directory: Path) -> Transfer:
    transfer = Transfer(directory)
    for name in ("timeline", "outcome"):
        path = directory / f"{name}.json"
        if path.exists():
            try:
                setattr(transfer, name, _dict(json.loads(path.read_text())))
            except (OSError, ValueError) as error:
                transfer.unreadable.append(f"{path.name} cannot be read: {error}")
    try:
        transfer.drawing = (directory / "timeline.svg").read_text()
    except (OSError, ValueError):
        transfer.drawing = ""
    return transfer


@functools.cache
def _docstrings(path: Path) -> dict[tuple[str, str], str]:
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError, ValueError):
        return {}
    found = {}
    for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        found[owner.name, ""] = _first_line(owner)
        for method in (
            node for node in owner.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            found[owner.name, method.name] = _first_line(method)
    return found


def _first_line(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0].strip()


@functools.cache
def defects() -> dict[str, str]:
    """The sentence on each known defect by its id; none where the list cannot be read."""
    try:
        from cprtest.defects import known_defects  # noqa: PLC0415 - needs PyYAML, which set-up installs

        return {defect.id: defect.summary for defect in known_defects()}
    except (OSError, ImportError, ValueError, KeyError, TypeError):
        return {}


def _natural(path: Path) -> tuple[int, list[int | str]]:
    """Sort transfer-10 behind transfer-9, and a directory before what is in it."""
    digits = "".join(c if c.isdecimal() else " " for c in path.name).split()
    return len(path.parts), [int(d) for d in digits]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_span(span: Any) -> bool:
    return isinstance(span, dict) and all(
        isinstance(span.get(edge), int | float) for edge in ("start", "end")
    )
