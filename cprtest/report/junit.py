# SPDX-License-Identifier: GPL-2.0-or-later
"""results.xml, JUnit's format as CI systems read it.

There is no standard; this keeps to what GitLab and Jenkins document: testsuite with counts, testcase
with failure, error or skipped, whose message is the reason. A known defect (WARN) passes, and says so.
"""

import re
from xml.etree import ElementTree as ET

from cprtest.report.model import Result, Results

# Characters outside production [2] of XML 1.0; no escape makes them legal.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(results: Results) -> str:
    """The text of results.xml."""
    counts = results.counts()
    totals = {
        "tests": str(len(results.tests) + len(results.problems)),
        "failures": str(counts["FAIL"]),
        "errors": str(counts["ERROR"] + counts["INTERRUPT"] + len(results.problems)),
        "skipped": str(counts["CANCEL"] + counts["SKIP"]),
        "time": f"{results.duration:.3f}",
    }
    root = ET.Element("testsuites", totals)
    about = {"name": f"qemu-cpr.{results.suite}", "timestamp": results.started[:19], **totals}
    suite = ET.SubElement(root, "testsuite", about)
    properties = ET.SubElement(suite, "properties")
    for name, value in {**results.host, **results.versions}.items():
        ET.SubElement(properties, "property", name=legal(name), value=legal(value))
    for test in results.tests:
        _case(suite, test)
    for sentence in results.problems:
        case = ET.SubElement(suite, "testcase", classname="qemu-cpr", name="the run itself", time="0")
        ET.SubElement(case, "error", message=legal(sentence), type="problem")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, test: Result) -> None:
    file, _, name = test.name.partition(":")
    owner, _, method = name.partition(".")
    parts = [test.host, file.removesuffix(".py").replace("/", "."), owner]
    case = ET.SubElement(
        suite,
        "testcase",
        classname=legal(".".join(part for part in parts if part)),
        name=legal(method or name or test.name),
        time=f"{test.duration:.3f}",
    )
    reason = legal(test.reason or f"{test.status} without a reason")
    if test.status == "FAIL":
        ET.SubElement(case, "failure", message=reason, type=legal(test.kind or "failure")).text = reason
    elif test.status in ("ERROR", "INTERRUPT"):
        ET.SubElement(case, "error", message=reason, type=legal(test.kind or test.status)).text = reason
    elif test.status in ("CANCEL", "SKIP"):
        ET.SubElement(case, "skipped", message=reason)
    lines = [test.promise, f"lane: {test.lane}"]
    if test.status == "WARN":
        lines.append(
            f"known defect {test.defect}: {test.reason}" if test.defect else f"warning: {test.reason}"
        )
    if test.directory:
        lines.append(f"evidence: {test.directory}")
    ET.SubElement(case, "system-out").text = legal("\n".join(line for line in lines if line))


def legal(text: str) -> str:
    """`text` with every character that XML 1.0 cannot hold made visible as \\xNN."""
    return _ILLEGAL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
