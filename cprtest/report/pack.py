# SPDX-License-Identifier: GPL-2.0-or-later
"""What the report's page carries as compressed data: an index of all results, and the evidence of each.

The page unpacks the index when it opens and a test's evidence when that is looked at, so that thousands of
results cost nothing until then. A mail has its limits: when the drawings and logs of the more telling tests
have filled their share, the others keep their tables only, and at last nothing but their line in the index.
"""

import base64
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cprtest.report import evidence
from cprtest.report.evidence import Transfer
from cprtest.report.figure import figure
from cprtest.report.model import BAD, RAN_WELL, Result, Results

FULL = 4_000_000
"""Bytes of the page up to which evidence comes with drawings and logs."""

LIMIT = 6_000_000
"""Bytes of the page up to which it comes at all: mail makes them 8 MB, and many servers refuse 10."""

_TAILS = ("debug.log", "source.log", "target.log", "console.log", "qmp.log")
_TAIL, _TAIL_OF_BAD = 1_000, 16_000
"""Characters of the end of a log that are embedded."""


def packed(data: Any) -> str:
    """Any JSON, compressed, as text that can stand in a page."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), 9, mtime=0)).decode()


def index(results: Results, kinds: Mapping[int, str], there: Mapping[int, str]) -> str:
    """All results in short. kinds: how a test differs from the earlier run; there: embedded evidence."""
    hosts = _hosts(results)
    tests = []
    for number, test in enumerate(results.tests, 1):
        name, _, variant = test.name.partition(";")
        entry = {
            "name": name,
            "variant": variant,
            "host": hosts.index(test.host or hosts[0]),
            "lane": test.lane,
            "status": test.status,
            "took": round(test.duration, 2),
            "promise": test.promise,
            "reason": test.reason,
            "reasons": test.reasons if len(test.reasons) > 1 else {},
            "defect": test.defect,
            "change": kinds.get(number, ""),
            "directory": _link(test.directory) if test.directory else "",
            "evidence": number in there,
        }
        tests.append({key: value for key, value in entry.items() if value or key == "host"})
    lost = [m.name for m in results.machines if not m.finished]
    return packed({"hosts": hosts, "lost": lost, "tests": tests})


def evidences(results: Results, root: Path, kinds: Mapping[int, str]) -> dict[int, str]:
    """The packed evidence of the tests that have any and for which there is room, by number from 1."""
    found: dict[int, str] = {}
    used = 0
    for number in _telling_first(results, kinds):
        if used >= LIMIT:
            break
        test = results.tests[number - 1]
        if data := _evidence(test, root, whole=used < FULL):
            found[number] = packed(data)
            used += len(found[number])
    return dict(sorted(found.items()))


def _telling_first(results: Results, kinds: Mapping[int, str]) -> list[int]:
    """Numbers of the tests: bad, known defects, different from before, the first of each name, all others."""
    seen: set[str] = set()
    ranks = {}
    for number, test in enumerate(results.tests, 1):
        name = test.name.partition(";")[0]
        tests = (test.status in BAD, test.status == "WARN", number in kinds, name not in seen)
        ranks[number] = next((rank for rank, holds in enumerate(tests) if holds), len(tests))
        if test.status in RAN_WELL:
            seen.add(name)
    return sorted(ranks, key=lambda number: ranks[number])


def _evidence(test: Result, root: Path, whole: bool) -> dict[str, Any]:
    if not test.directory:
        return {}
    directory = root / test.directory
    found = evidence.transfers(directory)
    shown = evidence.telling(found)
    taken = {path for transfer in found for path in transfer.logs}
    own = [path for path in evidence.logs(directory) if path not in taken]
    if not shown and (not own or test.status in ("CANCEL", "SKIP")):
        return {}
    length = (_TAIL_OF_BAD if test.status in BAD else _TAIL) if whole else 0
    return {
        "whole": whole,
        "more": len(found) - len(shown),
        "transfers": [_transfer(transfer, root, whole, length) for transfer in shown],
        "logs": _logs(own, root, length),
    }


def _transfer(transfer: Transfer, root: Path, whole: bool, length: int) -> dict[str, Any]:
    return {
        "place": transfer.place,
        "status": transfer.outcome.get("status"),
        "survivor": transfer.outcome.get("survivor"),
        "unreadable": transfer.unreadable,
        "drawing": figure(transfer.drawing) if whole and transfer.drawing else "",
        "phases": transfer.phases,
        "downtime": transfer.downtime,
        "ownership": transfer.ownership,
        "violations": transfer.violations,
        "faults": transfer.faults,
        "checks": transfer.checks,
        "qemu": transfer.qemu,
        "logs": _logs(transfer.logs, root, length),
    }


def _logs(paths: Sequence[Path], root: Path, length: int) -> list[dict[str, str]]:
    return [
        {
            "name": path.name,
            "link": _link(os.path.relpath(path, root)),
            "tail": _tail(path, length) if path.name in _TAILS and length else "",
        }
        for path in paths
    ]


def _tail(path: Path, length: int) -> str:
    """The last lines of a file, `length` bytes at most."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - length))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"{path.name} cannot be read: {error}"
    return text if size <= length else text.partition("\n")[2]


def _hosts(results: Results) -> list[str]:
    names = [machine.name for machine in results.machines]
    return names or [results.host.get("name", "") or "this host"]


def _link(path: str) -> str:
    """From the report to a file of the results directory."""
    return f"../{path}"
