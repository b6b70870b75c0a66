# SPDX-License-Identifier: GPL-2.0-or-later
"""The report in a real browser, where Chromium is installed."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PROGRAM, Browser

from cprtest.report import pack
from cprtest.report.model import Machine, Result, Results
from cprtest.report.write import REPORT, write
from cprtest.timeline.draw import draw
from cprtest.timeline.event import Event
from cprtest.timeline.timeline import Timeline

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium")

STATUSES = ["PASS"] * 45 + ["FAIL", "ERROR", "WARN", "CANCEL", "INTERRUPT"]


def results(root: Path, count: int) -> Results:
    """`count` results of tests with 10 variants on two machines; their evidence lies in `root`."""
    directory = root / "evidence"
    directory.mkdir()
    event = Event(1_000_000, "source", "qmp", "STOP", data={"text": "a hostile <img src=x onerror=alert(1)>"})
    (directory / "timeline.svg").write_text(draw(Timeline.build([event], {}, None)))
    (directory / "timeline.json").write_text(json.dumps({"phases": {"stop": {"start": 0, "end": 1e6}}}))
    (directory / "outcome.json").write_text(json.dumps({"status": "completed", "survivor": "target"}))
    (directory / "debug.log").write_text("what was <b>said</b>\n" * 100)
    tests = [
        Result(
            f"tests/functional/t{n // 200}.py:T.test_{n // 20};run-{n // 2 % 10}",
            STATUSES[n % len(STATUSES)],
            "lab",
            n / 100,
            reason="" if STATUSES[n % len(STATUSES)] == "PASS" else f"because of <i>{n}</i>",
            promise=f"Promise number {n // 20}.",
            directory="evidence",
            host=("alpha", "beta")[n % 2],
        )
        for n in range(count)
    ]
    machines = (Machine("alpha", True, "a"), Machine("beta", True, "b"))
    run = Results(
        "full", ("scripts/merge",), "2026-11-22T19:00:00+00:00", 1.0, {"name": "2"}, {}, (), tuple(tests)
    )
    return dataclasses.replace(run, machines=machines)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened


def test_five_thousand_results(tmp_path: Path, browser: Browser) -> None:
    write(results(tmp_path, 5000), tmp_path)
    page = tmp_path / REPORT
    assert page.stat().st_size < 10_000_000
    assert pack.LIMIT < 10_000_000
    browser.open(page.as_uri())
    assert browser.run("document.querySelectorAll('[data-place]').length") == 5000
    assert browser.run("document.getElementById('shown').textContent") == "5000 of 5000"
    # How long that takes is measured (docs/performance.md): a busy machine is no failure of the page.
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_by_keyboard_alone(tmp_path: Path, browser: Browser) -> None:
    write(results(tmp_path, 100), tmp_path)
    browser.open((tmp_path / REPORT).as_uri())
    focused = "document.activeElement.dataset.place"
    browser.run("document.querySelector('[data-place]').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run(focused) == "2", "the next variant on the same machine"
    height = "document.activeElement.getBoundingClientRect().top"
    before = browser.run(height)
    browser.press("ArrowDown", 40)
    assert browser.run(height) > before + 10
    browser.press("ArrowUp", 38)
    assert browser.run(focused) == "2"
    browser.press("Enter", 13)
    browser.run("new Promise((done) => setTimeout(done, 300))")
    card = "document.getElementById('card').textContent"
    assert "Promise number 0." in browser.run(card)
    assert "completed, the guest runs on: target" in browser.run(card)
    assert browser.run("document.querySelectorAll('#card .drawing svg').length") == 1
    browser.press("ArrowRight", 39)
    assert browser.run("location.hash") == "#t5"
    browser.press("Escape", 27)
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run("document.getElementById('detail').open") is False
    assert browser.run(focused) == "4", "the focus is on the result that was looked at"


def test_reasons_search_and_filters(tmp_path: Path, browser: Browser) -> None:
    write(results(tmp_path, 100), tmp_path)
    browser.open((tmp_path / REPORT).as_uri())
    browser.run("document.querySelector('[data-place].FAIL').scrollIntoView({block: 'center'})")
    browser.hover("[data-place].FAIL")
    assert "because of <i>45</i>" in browser.run("document.getElementById('tip').textContent")
    browser.run("document.querySelector('[data-status=PASS]').click()")
    assert browser.run("document.getElementById('shown').textContent") == "10 of 100"
    browser.run("document.getElementById('search').value = 'number 4.'")
    browser.run("document.getElementById('search').dispatchEvent(new Event('input'))")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    assert browser.run("document.getElementById('shown').textContent") == "5 of 100"


def test_on_a_phone(tmp_path: Path) -> None:
    write(results(tmp_path, 100), tmp_path)
    with Browser(tmp_path / "profile", 390, 800) as phone:
        phone.open((tmp_path / REPORT).as_uri() + "#t46")
        assert phone.run("document.documentElement.scrollWidth <= innerWidth")
        assert "because of <i>45</i>" in phone.run("document.getElementById('card').textContent")
