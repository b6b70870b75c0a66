# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents: links lead somewhere, files that are named exist, and commands with their options."""

import dataclasses
import functools
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cprtest import paths
from cprtest.defects import known_defects
from cprtest.job import listing
from cprtest.job.suites import SUITES
from cprtest.provision.qemu_source import mutants
from cprtest.report.model import STATUSES, Machine, Result, Results

PAGES = sorted([*paths.CHECKOUT.glob("*.md"), *(paths.CHECKOUT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w/.-])((?:cprtest|tests|assets|scripts|docs|ci|hosts)/[\w./-]*\w)(?![\w*<>\[{])")
MODULE = re.compile(r"-m (cprtest(?:\.\w+)+)")
# What other projects' trees have, and names that stand for one of the user's.
ELSEWHERE = (
    "tests/functional/aarch64/",
    "tests/functional/x86_64/",
    "tests/qtest/",
    "docs/devel/",
    "tests/vars/FILE",
)


def ident(page: Path) -> str:
    return str(page.relative_to(paths.CHECKOUT))


def pages(*without: str) -> list[object]:
    return [pytest.param(page, id=ident(page)) for page in PAGES if ident(page) not in without]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as git forges make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def help_of(script: str, *subcommand: str) -> str:
    """What a script says of itself."""
    words = [str(paths.CHECKOUT / "scripts" / script), *subcommand, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command of ours on a page: in `code`, and at the beginning of indented lines."""
    text = page.read_text().replace("\\|", "|")
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^    (?:- )?(scripts/.*)$", text, re.MULTILINE)
    for line in code:
        for command in re.findall(r"scripts/[a-z-]+[^#;&>)]*", line):
            try:
                yield shlex.split(command)
            except ValueError:
                yield command.split()


@pytest.mark.parametrize("page", pages())
def test_links(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", pages("docs/reference-qemu.md"))
def test_files_that_are_named_exist(page: Path) -> None:
    for name in FILE.findall(page.read_text()):
        if not name.startswith(ELSEWHERE) and not re.search(r"[A-Z]{4}", name):
            # A patch may be named by its number.
            assert list(paths.CHECKOUT.glob(f"{name}*")), name


@pytest.mark.parametrize("page", pages())
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        script = words[0].removeprefix("scripts/")
        assert (paths.CHECKOUT / "scripts" / script).is_file(), words
        if len(words) == 1:
            continue
        ours = words[1 : words.index("--")] if "--" in words else words[1:]
        sub = [ours[0]] if script == "lab" and ours and ours[0] in ("run", "shell", "info") else []
        text = help_of(script, *sub)
        if sub == ["run"]:  # what follows is another command
            ours = ours[: next((n for n, w in enumerate(ours) if n and not w.startswith("-")), len(ours))]
        for word in ours:
            option = re.fullmatch(r"\[*(--[a-z-]+)(=.*)?\]*", word)
            if option:
                assert option[1] in text, f"{script} has no {option[1]}: {words}"


@pytest.mark.parametrize("page", pages())
def test_suites_and_mutants_that_are_named_exist(page: Path) -> None:
    for words in commands(page):
        if words[0] == "scripts/run" and len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
            assert words[1] in SUITES, words
        for word in words:
            name = re.fullmatch(r"mutants:([a-z-]+)", word)
            assert not name or name[1] in mutants(), words


@pytest.mark.parametrize("page", pages())
def test_modules_that_are_run_exist(page: Path) -> None:
    for name in MODULE.findall(page.read_text()):
        path = paths.CHECKOUT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_every_defect_is_in_the_index_of_findings() -> None:
    findings = paths.CHECKOUT / "docs" / "findings"
    named = re.findall(r"D-\d{3}", (findings / "README.md").read_text())
    known = {defect.id for defect in known_defects()} | {page.stem for page in findings.glob("D-*.md")}
    assert known <= set(named)


@pytest.mark.parametrize("script", sorted(path.name for path in (paths.CHECKOUT / "scripts").iterdir()))
def test_every_script_has_a_man_page(script: str) -> None:
    text = help_of(script)
    assert text.startswith("usage: scripts/"), text
    assert re.search(r"exit status", text, re.IGNORECASE), (
        f"scripts/{script} --help does not tell its exit status"
    )
    assert re.search(
        r"^\| `.*scripts/" + script + r"\b", (paths.CHECKOUT / "README.md").read_text(), re.MULTILINE
    )


def test_the_test_of_writing_tests_md_is_one(tmp_path: Path) -> None:
    text = (paths.CHECKOUT / "docs" / "writing-tests.md").read_text()
    lines = text[text.index("# SPDX") :].splitlines()
    block = [
        line.removeprefix("       ")
        for line in itertools.takewhile(lambda x: x[:3] in ("# S", "   ", ""), lines)
    ]
    code = "\n".join(itertools.takewhile(lambda line: not line.startswith("   and run"), block))
    file = tmp_path / "example.py"
    file.write_text(code + "\n")
    (entry,) = listing.entries([f"{file}:Programs.test_program_goes_on"])
    assert entry.needs == ("qemu:cpr-transfer",)
    assert entry.promise == "A program that was started before the hand-over runs on after it."
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "-q", file], check=False, cwd=paths.CHECKOUT
    )
    assert linted.returncode == 0


def table(heading: str) -> set[str]:
    """The words of the first column of results.md's table with that heading."""
    text = (paths.CHECKOUT / "docs" / "results.md").read_text()
    rows = text.partition(f"| {heading} | holds |\n|---|---|\n")[2].partition("\n\n")[0]
    return {word for row in rows.splitlines() for word in row.split("|")[1].strip().split(", ")}


def test_results_md_has_every_field() -> None:
    assert table("field") == {
        "format",
        "counts",
        "exit_status",
        *(f.name for f in dataclasses.fields(Results)),
    }
    assert table("field of a test") == {field.name for field in dataclasses.fields(Result)}
    text = (paths.CHECKOUT / "docs" / "results.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| machines"))
    assert all(field.name in row for field in dataclasses.fields(Machine))
    assert all(f"\n| {status} |" in text for status in STATUSES)


def test_results_json_is_stable() -> None:
    """What other tools rely on. Adding a field is fine; changing this line means a new format."""
    run = Results("smoke", (), "2026-11-22T19:00:00+00:00", 1.0, {}, {}, (), (Result("t", "PASS", "here"),))
    assert set(run.as_json()) >= {
        *("format", "suite", "command", "started", "duration", "host", "versions", "lanes", "tests"),
        *("problems", "finished", "machines", "counts", "exit_status"),
    }
    assert run.as_json()["format"] == 1
    assert set(run.as_json()["tests"][0]) >= {
        *("name", "status", "lane", "duration", "reason", "reasons", "kind", "directory", "promise", "tags"),
        *("defect", "host"),
    }
