# SPDX-License-Identifier: GPL-2.0-or-later
"""results.xml and report/index.html, from evidence that is whole, broken or missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pages import unpacked

from cprtest.report import evidence, html, junit
from cprtest.report.figure import figure
from cprtest.report.model import Lane, Result, Results
from cprtest.report.write import write
from cprtest.timeline.draw import draw
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline

TIMELINE = {
    "qemu": {"source": "10.2.2", "target": "11.1.3"},
    "phases": {
        "stop": {"start": 9_000_000, "end": 10_000_000},
        "handover": {"start": 5_000_000, "end": 6_500_000},
    },
    "ownership": [{"device": "net0", "queue": 1, "owner": "target", "start": 7_000_000, "end": None}],
    "downtime": {"vcpu": None, "qemu": 6_500_000},
    "violations": ["two <owners> at once"],
}
OUTCOME = {
    "status": "split",
    "survivor": "both",
    "faults": [{"name": "channel-cut", "phase": "stream", "side": "source", "struck": True}],
    "checks": [{"name": "survivor is target", "ok": False, "message": "it runs on both"}],
    "known_defect": None,
}


def run(*tests: Result, problems: tuple[str, ...] = ()) -> Results:
    lane = Lane("here", "here/job-1", 1, False, None, 2.0)
    about = {"name": "a <host>"}
    return Results(
        "smoke", ("scripts/run",), "2026-11-22T19:00:00+00:00", 2, about, {}, (lane,), tests, problems
    )


def test_junit_has_reasons_and_legal_characters_only() -> None:
    terrible = "bell \x07 escape \x1b[31m <&\"'> \ufffe surrogate \udc80 fine \u2713"
    tests = [
        Result("t.py:T.a", "PASS", "here", 1.25, promise="It <works>."),
        Result("t.py:T.b", "FAIL", "here", reason=terrible, kind="AssertionError"),
        Result("t.py:T.c", "ERROR", "lab"),
        Result("t.py:T.d", "INTERRUPT", "lab", reason="Interrupted by the user."),
        Result("t.py:T.e", "CANCEL", "lab", reason="kvm: there is none."),
        Result("t.py:T.f", "WARN", "here", reason="it crashes", defect="D-001"),
    ]
    text = junit.render(run(*tests, problems=("The lab was broken.",)))
    root = ET.fromstring(text)
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "7",
        "1",
        "3",
        "1",
    )
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert cases["a"].get("classname") == "t.T"
    assert cases["a"].get("time") == "1.250"
    failure = cases["b"].find("failure")
    assert failure is not None
    message = failure.get("message") or ""
    assert "bell \\x07 escape \\x1b[31m <&\"'>" in message
    assert "\\xfffe" in message
    assert "\\xdc80" in message
    assert "\u2713" in message
    skipped = cases["e"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "kvm: there is none."
    assert cases["c"].find("error") is not None
    assert cases["d"].find("error") is not None
    assert [child.tag for child in cases["f"]] == ["system-out"]
    assert "known defect D-001: it crashes" in (cases["f"].findtext("system-out") or "")
    assert "The lab was broken." in text


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def transfer(directory: Path, timeline: object = TIMELINE, outcome: object = OUTCOME) -> None:
    directory.mkdir(parents=True)
    (directory / "timeline.json").write_text(json.dumps(timeline))
    (directory / "outcome.json").write_text(json.dumps(outcome))
    (directory / "timeline.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><style>p{color:red}</style></svg>'
    )
    (directory / "source.log").write_text("said")


def test_report_shows_the_evidence_and_needs_no_network(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        transfer(tmp_path / "here" / "a" / f"transfer-{number}")
    failed = Result("t.py:T.a", "FAIL", "here", 2.0, "it <broke>", directory="here/a", promise="It works.")
    results = write(run(failed, Result("t.py:T.b", "PASS", "lab", directory="here/gone")), tmp_path)
    assert results.problems == ()
    text = (tmp_path / "report" / "index.html").read_text()
    for expected in ("It works.", "it &lt;broke&gt;", "a &lt;host&gt;", "1 failed"):
        assert expected in text, expected
    data = unpacked(text, "e1")
    assert [transfer["place"] for transfer in data["transfers"]] == ["1 of 3", "2 of 3", "3 of 3"]
    last = data["transfers"][2]
    assert (last["status"], last["survivor"], last["violations"]) == (
        "split",
        "both",
        ["two <owners> at once"],
    )
    assert (last["faults"], last["checks"]) == (OUTCOME["faults"], OUTCOME["checks"])
    assert last["phases"] == [["handover", 0.0, 1.5], ["stop", 4.0, 1.0]]
    assert last["downtime"] == {"vcpu": None, "qemu": 6.5}
    assert last["ownership"][0]["start"] == 2.0
    assert last["drawing"].startswith("<img "), "the style of a drawing must not reach the page"
    source = next(log for log in last["logs"] if log["name"] == "source.log")
    assert source["tail"] == "said"
    assert (tmp_path / "report" / source["link"]).read_text() == "said"
    tests = unpacked(text, "index")["tests"]
    assert [(test["status"], test["evidence"]) for test in tests if "evidence" in test] == [("FAIL", True)]
    seen = _Links()
    seen.feed(text)
    for link in seen.links:
        if re.fullmatch("#t[12]", link):
            continue  # the script opens the test of that number
        if link.startswith("#"):
            assert link[1:] in seen.ids
        elif not link.startswith("data:"):
            assert (tmp_path / "report" / link).exists(), link
    assert len(seen.ids) == len(set(seen.ids))
    assert not re.search(r"""(src|href)=["']?https?:|url\(|@import""", text)


def test_of_many_transfers_the_telling_ones_are_shown(tmp_path: Path) -> None:
    for number in range(1, 31):
        transfer(tmp_path / "here" / "a" / f"transfer-{number}")
        (tmp_path / "here" / "a" / f"transfer-{number}" / "outcome.json").write_text("{}")
        if number != 7:
            (tmp_path / "here" / "a" / f"transfer-{number}" / "timeline.json").write_text("{}")
    found = evidence.transfers(tmp_path / "here" / "a")
    assert len(found) == 30
    assert [shown.place for shown in evidence.telling(found)] == ["1 of 30", "7 of 30", "30 of 30"]


@pytest.mark.parametrize(
    ("timeline", "outcome"),
    [
        ([], "nothing"),
        (
            {"phases": {"stop": {"start": "x"}}, "ownership": [7], "downtime": {"qemu": "?"}},
            {"checks": [None]},
        ),
        ({"phases": None, "qemu": [], "violations": 3, "ownership": [{}]}, {"faults": {}, "checks": [{}]}),
    ],
)
def test_strange_evidence_does_not_cost_the_report(tmp_path: Path, timeline: object, outcome: object) -> None:
    transfer(tmp_path / "here" / "a", timeline, outcome)
    results = write(run(Result("t.py:T.a", "PASS", "here", directory="here/a")), tmp_path)
    assert results.problems == ()


def test_evidence_that_cannot_be_read_is_mentioned(tmp_path: Path) -> None:
    transfer(tmp_path / "here" / "a")
    (tmp_path / "here" / "a" / "timeline.json").write_text('{"phases": ')
    text = html.render(run(Result("t.py:T.a", "PASS", "here", directory="here/a")), tmp_path)
    assert "timeline.json cannot be read" in unpacked(text, "e1")["transfers"][0]["unreadable"][0]


def test_plots_of_downtime_are_part_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "downtime").mkdir()
    for name in ("modes.svg", "modes.png", "memory-growth.png", "record.json"):
        (tmp_path / "downtime" / name).write_text("a drawing")
    text = html.render(run(Result("t.py:T.a", "PASS", "here")), tmp_path)
    assert text.count('<div class="plots">') == 2
    assert 'alt="memory growth"' in text
    assert "image/svg+xml" in text


def test_a_failing_renderer_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(html, "render", broken)
    results = write(run(Result("t.py:T.a", "PASS", "here")), tmp_path)
    assert results.exit_status() == 1
    assert "no ink" in results.problems[0]
    assert json.loads((tmp_path / "results.json").read_text())["exit_status"] == 1


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["PASS", "WARN"], "Nothing failed: 1 passed, 1 met a known defect of QEMU."),
        (["FAIL", "PASS"], "Not good: 1 failed, 1 passed."),
        (["CANCEL"], "Not good, although no test failed: 1 could not run here."),
        ([], "no test ran"),
    ],
)
def test_verdict(statuses: list[str], said: str) -> None:
    assert said in html.verdict(run(*(Result("t.py:T.a", status, "here") for status in statuses)))


def test_our_drawing_is_part_of_the_page_others_are_images() -> None:
    event = Event(1, "source", "qmp", "STOP", data={"text": "<script>alert(1)</script>"})
    ours = draw(Timeline.build([event], {}, None))
    assert str(figure(ours)) == ours
    for harm in ("<script>alert(1)</script>", '<g onclick="alert(1)"/>', "<style>p{color:red}</style>"):
        assert figure(ours.replace("</svg>", f"{harm}</svg>")).startswith("<img "), harm
    assert figure("<svg").startswith("<img ")
