# SPDX-License-Identifier: GPL-2.0-or-later
"""results.tap: the Test Anything Protocol, version 14, of all lanes and machines together.

Test points are in the order of results.json. What could not run is SKIP with its reasons; a known defect
(WARN) is `ok`, with its id. A problem of the run itself is a point that is not ok, so that no reader takes
the run for a success.
"""

from cprtest.report.model import BAD, Result, Results


def render(results: Results) -> str:
    """The text of results.tap."""
    points = [_point(test) for test in results.tests]
    points += [f"not ok NUMBER - the run itself\n{_diagnostics('PROBLEM', p)}" for p in results.problems]
    lines = [point.replace("NUMBER", str(number), 1) for number, point in enumerate(points, 1)]
    return "\n".join(["TAP version 14", f"1..{len(points)}", *lines]) + "\n"


def _point(test: Result) -> str:
    ok = "not ok" if test.status in BAD else "ok"
    name = _escaped(f"{test.host}: {test.name}" if test.host else test.name)
    reason = test.reason or "no reason was given"
    if test.status in ("CANCEL", "SKIP"):
        return f"{ok} NUMBER - {name} # SKIP {_escaped(reason)}"
    if test.status == "WARN":
        return f"{ok} NUMBER - {name}\n# known defect {test.defect or 'without id'}: {_one_line(reason)}"
    if test.status in BAD:
        return f"{ok} NUMBER - {name}\n{_diagnostics(test.status, reason)}"
    return f"{ok} NUMBER - {name}"


def _diagnostics(status: str, reason: str) -> str:
    """A YAML block; the reason as a literal scalar, which needs no quoting."""
    text = "\n".join(f"    {line}" for line in _printable(reason).splitlines() or [""])
    return f"  ---\n  status: {status}\n  reason: |2\n{text}\n  ..."


def _escaped(text: str) -> str:
    """On one line, with TAP's two special characters escaped."""
    return _one_line(text).replace("\\", "\\\\").replace("#", "\\#")


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c == "\t" else f"\\x{ord(c):02x}" for c in text
    )
