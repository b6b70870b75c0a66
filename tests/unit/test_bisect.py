# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/bisect without QEMU: real git in a small tree, a stand-in for what builds and tests a commit."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cprtest.bisect import cli, session, tree
from cprtest.bisect.session import ABORT, BAD, GOOD, SKIP, Settings
from cprtest.bisect.tree import Tree
from cprtest.bisect.trial import NOT_BUILT, Bench, Seen
from cprtest.errors import CprError, UsageError

TEST = "tests/functional/rollback.py:Rollback.test_target_killed"

STEP = """#!/bin/sh
echo "  judged $(cat state)"
case $(cat state) in good) exit 0 ;; bad) exit 1 ;; broken) exit 128 ;; *) exit 125 ;; esac
"""


@pytest.fixture
def qemu(tmp_path: Path) -> Tree:
    """A tree that looks like QEMU's, with no commit yet."""
    root = tmp_path / "qemu"
    for name in ("configure", "hw/virtio/vhost.c", "subprojects/.gitignore"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("/fetched\n")
    (root / "subprojects" / "fetched").mkdir()
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "init", "-q", "-b", "master"], check=True)
    for name, value in (("user.name", "T"), ("user.email", "t@example.org")):
        subprocess.run([*git, "config", name, value], check=True)
    return Tree(root)


def committed(qemu: Tree, *states: str) -> None:
    """A commit for each state, which is in the file `state` and the subject."""
    for number, state in enumerate(states, 1):
        (qemu.path / "state").write_text(state)
        (qemu.path / "number").write_text(str(number))
        qemu.git("add", "-A")
        qemu.git("commit", "-q", "-m", f"{number} {state}")


def searched(qemu: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of what a search leaves over."""
    step = tmp_path / "step"
    step.write_text(STEP)
    step.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(step))
    good, bad = (
        qemu.commit("HEAD~" + str(int(qemu.git("rev-list", "--count", "HEAD")) - 1)),
        qemu.commit("HEAD"),
    )
    with tree.beside(qemu, tmp_path / "mine") as mine:
        assert (mine.path / "subprojects" / "fetched").is_dir()
        settings = Settings(str(mine.path), str(tmp_path), str(tmp_path), TEST, "here", "FAIL")
        found = [commit.subject for commit in session.search(settings, good, bad)]
    assert not (tmp_path / "mine").exists()
    assert "mine" not in qemu.git("worktree", "list")
    assert qemu.git("status", "--porcelain") == ""
    return found


def test_the_first_bad_commit_is_found(qemu: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(qemu, *["good"] * 5, "bad", "bad", "bad")
    assert searched(qemu, tmp_path, monkeypatch) == ["6 bad"]


def test_what_cannot_be_built_is_skipped(qemu: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(qemu, "good", "good", "no", "no", "good", "bad", "bad")
    assert searched(qemu, tmp_path, monkeypatch) == ["6 bad"]


def test_several_are_left_when_the_culprit_was_skipped(
    qemu: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(qemu, "good", "good", "no", "no", "bad", "bad")
    assert searched(qemu, tmp_path, monkeypatch) == ["5 bad", "4 no", "3 no"]


def test_a_step_that_cannot_work_ends_the_search(
    qemu: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(qemu, "good", "broken", "broken", "broken", "bad")
    with pytest.raises(CprError, match="git bisect run ended with status"):
        searched(qemu, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("symptom", "status", "verdict"),
    [
        ("FAIL", "PASS", GOOD),
        ("FAIL", "FAIL", BAD),
        ("FAIL", "ERROR", SKIP),
        ("FAIL", "WARN", SKIP),
        ("FAIL", "CANCEL", SKIP),
        ("FAIL", NOT_BUILT, SKIP),
        ("WARN", "WARN", BAD),
        ("ERROR", "ERROR", BAD),
    ],
)
def test_verdicts(symptom: str, status: str, verdict: int) -> None:
    settings = Settings("", "", "", TEST, "here", symptom)
    assert settings.verdict(Seen("c", "s", status, "", 0.0, 0.0, "")) == verdict


def test_a_step_says_and_keeps_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = session.load(Settings("t", str(tmp_path), str(tmp_path), TEST, "here", "FAIL").save())
    seen = Seen("abc", "Break it", "FAIL", "it broke\nmore", 61.0, 2.0, "e")
    monkeypatch.setattr(Bench, "look", lambda _: seen)
    assert session.step(settings) == BAD
    said = '  bad   abc "Break it" FAIL: it broke (built in 61 s, tested in 2 s)\n'
    assert capsys.readouterr().out == said
    assert session.noted(tmp_path) == [{**dataclasses.asdict(seen), "verdict": "bad"}]

    def cannot(_: Bench) -> Seen:
        raise CprError("The lab does not start.")

    monkeypatch.setattr(Bench, "look", cannot)
    assert session.step(settings) == ABORT


def test_ends_have_to_be_as_said(qemu: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(qemu, "good", "bad")
    settings = Settings(str(qemu.path), str(tmp_path), str(tmp_path), TEST, "here")

    def look(bench: Bench) -> Seen:
        state = (bench.tree.path / "state").read_text()
        status = {"good": "PASS", "bad": "FAIL", "cancel": "CANCEL"}[state]
        if bench.lane == "lab":
            status = "FAIL"
        return Seen(bench.tree.commit("HEAD").ident, "s", status, "", 0.0, 0.0, "e")

    monkeypatch.setattr(Bench, "look", look)
    good, bad = qemu.commit("HEAD~1"), qemu.commit("HEAD")
    assert cli._ends(settings, qemu, good, bad, lab_too=True).symptom == "FAIL"
    with pytest.raises(CprError, match="--bad is not bad"):
        cli._ends(settings, qemu, good, good, lab_too=True)
    with pytest.raises(CprError, match="--good is not good"):
        cli._ends(settings, qemu, bad, bad, lab_too=True)
    qemu.git("checkout", "-q", "master")
    committed(qemu, "cancel")
    with pytest.raises(CprError, match="--bad is not bad"):
        cli._ends(settings, qemu, good, qemu.commit("master"), lab_too=False)
    with pytest.raises(CprError, match="--good is not good"):  # in the lab stand-in everything fails
        cli._ends(settings, qemu, bad, qemu.commit("master"), lab_too=True)


def test_wrong_ends_are_one_sentence(qemu: Tree, tmp_path: Path) -> None:
    committed(qemu, "good", "bad")
    good, bad = qemu.commit("HEAD~1"), qemu.commit("HEAD")
    assert qemu.between(good, bad) == 1
    with pytest.raises(UsageError, match="no ancestor"):
        qemu.between(bad, good)
    with pytest.raises(UsageError, match="both"):
        qemu.between(bad, bad)
    with pytest.raises(UsageError, match="has no commit v9"):
        qemu.commit("v9")
    with pytest.raises(UsageError, match="no source tree of QEMU"):
        tree.opened(tmp_path)
    assert tree.opened(qemu.path) == qemu


def test_tests_are_found_by_their_short_name() -> None:
    assert cli.named("Rollback.test_target_killed") == TEST
    assert cli.named(TEST) == TEST
    with pytest.raises(UsageError, match="There is no test Rollback;"):
        cli.named("Rollback")


def test_the_explanation_names_the_commit_last(
    qemu: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committed(qemu, "good", "bad")
    bad = qemu.commit("HEAD")
    settings = Settings(str(qemu.path), str(tmp_path), str(tmp_path), TEST, "here", "FAIL")
    session.note(settings, Seen(bad.ident, bad.subject, "FAIL", "why", 1.0, 1.0, "e"), "bad")
    assert cli._explained(settings, qemu, [bad]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"First bad commit: {bad}"
    assert cli._explained(settings, qemu, [bad, qemu.commit("HEAD~1")]) == 1


def test_steps_are_json_lines(tmp_path: Path) -> None:
    settings = Settings("t", str(tmp_path), str(tmp_path), TEST, "here", "FAIL")
    session.note(settings, Seen("a", "s", "PASS", "", 1.0, 1.0, "e"), "good")
    (line,) = (tmp_path / session.STEPS).read_text().splitlines()
    assert set(json.loads(line)) == {
        *("commit", "subject", "status", "reason", "building", "testing", "evidence", "verdict"),
    }
