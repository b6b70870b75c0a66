# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `scripts/bisect`."""

import argparse
import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cprtest import manpage, paths
from cprtest.bisect import session, tree
from cprtest.bisect.session import Settings, note
from cprtest.bisect.tree import Commit, Tree
from cprtest.errors import CprError, UsageError, exit_status
from cprtest.job import suites
from cprtest.provision.files import digest, locked

_HELP = manpage.description(
    """
    Find the commit of QEMU that made a test fail.

    Both ends are tried first: TEST must pass at --good and must not at --bad. Then `git bisect run` chooses
    commits between them; each is built (with the arguments of assets/qemu/source.toml; objects of the
    commit before are used again, and ccache) and TEST is run with it:

      good   TEST passes
      bad    TEST ends as it did at --bad (FAIL, ERROR, or WARN for a known defect)
      skip   it cannot be compiled, or TEST ends in another way: nothing is known of that commit

    This happens in a git work tree below the cache, so your own files, and a bisection of yours, stay as
    they are.
    """
)
_EPILOG = manpage.sections(
    files="""
        results/bisect-TIME-PID/steps.jsonl   what was seen of each commit
        results/bisect-TIME-PID/COMMIT/       its build.log, and the evidence of the test
        """,
    exit_status="""
        0    one commit was found; the last line names it
        1    none; or several are left, since those between could not be judged; or the ends are not as
             was said
        2    wrong command line
        130  interrupted
        """,
    examples="""
        scripts/bisect --good v10.2.0 --bad master --tree ~/qemu Consistency.test_memory_and_disk
        """,
)


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/bisect",
        description=_HELP,
        epilog=_EPILOG,
        formatter_class=manpage.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("test", metavar="TEST", help="FILE:Class.method, or Class.method if that is unique")
    parser.add_argument("--good", required=True, metavar="A", help="a commit at which TEST passes")
    parser.add_argument("--bad", required=True, metavar="B", help="a later commit at which it does not")
    parser.add_argument(
        "--tree", type=Path, default=Path(), metavar="DIR", help="QEMU's git tree (default: this directory)"
    )
    parser.add_argument(
        "--lane",
        choices=("here", "lab"),
        help="where TEST runs (default: here, the lab if it cannot run here)",
    )
    asked = parser.parse_args(words)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # ends as Ctrl-C does, without leaving a work tree
    return exit_status(lambda: _bisect(asked), "Interrupted; the work tree is removed, what was seen stays.")


def _bisect(asked: argparse.Namespace) -> int:
    test = named(asked.test)
    source = tree.opened(asked.tree)
    good, bad = source.commit(asked.good), source.commit(asked.bad)
    count = source.between(good, bad)
    base = paths.cache_dir() / "bisect"
    work = base / digest([str(source.path)])
    evidence = paths.CHECKOUT / "results" / f"bisect-{datetime.now():%Y-%m-%dT%H-%M-%S}-{os.getpid()}"
    evidence.mkdir(parents=True)
    with locked("bisect"):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with tree.beside(source, work / "tree") as mine:
                settings = Settings(str(mine.path), str(work), str(evidence), test, asked.lane or "here")
                print(f"{test}: {count} commits after {good}, the last is {bad}.\nThe ends:", flush=True)
                settings = _ends(settings, mine, good, bad, lab_too=asked.lane is None)
                print("Between them:", flush=True)
                return _explained(settings, mine, session.search(settings, good, bad))
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _ends(settings: Settings, mine: Tree, good: Commit, bad: Commit, lab_too: bool) -> Settings:
    """Try both ends; returns the settings with the lane and the symptom. Raises CprError: not as said."""
    mine.git("checkout", "--quiet", "--detach", bad.ident)
    seen = settings.bench().look()
    if seen.status == "CANCEL" and lab_too:
        settings = dataclasses.replace(settings, lane="lab")
        seen = settings.bench().look()
    if seen.status not in ("FAIL", "ERROR", "WARN"):
        raise CprError(f"--bad is not bad: {seen}\nThere is nothing to look for; see {seen.evidence}.")
    settings = dataclasses.replace(settings, symptom=seen.status)
    note(settings, seen, "bad")
    mine.git("checkout", "--quiet", "--detach", good.ident)
    seen = settings.bench().look()
    if seen.status != "PASS":
        raise CprError(f"--good is not good: {seen}\nName an older commit; see {seen.evidence}.")
    note(settings, seen, "good")
    return settings


def _explained(settings: Settings, mine: Tree, left: list[Commit]) -> int:
    """Tell what was found, why, and how to see it again."""
    steps = session.noted(Path(settings.evidence))
    skipped = sum(step["verdict"] == "skip" for step in steps)
    print(f"\n{len(steps)} commits were tried, {skipped} of them told nothing. Evidence: {settings.evidence}")
    if len(left) > 1:
        print("The first bad commit is one of these; those that were skipped could not be judged:")
        for commit in left:
            print(f"  {commit}")
        return 1
    found = left[0]
    seen = next(step for step in steps if step["commit"] == found.ident)
    print(mine.git("show", "--stat", "--format=%nAuthor: %an, %ad%n%n%w(0,4,4)%B", found.ident))
    print(f"\n{settings.test} passes before it, and ends as {seen['status']} with it: {seen['reason']}")
    print(f"See it again: git checkout {found.ident}, build, scripts/run --qemu BIN; the evidence is in")
    print(f"{seen['evidence']}.\n\nFirst bad commit: {found}")
    return 0


def named(word: str) -> str:
    """The full name of a test that the user called `word`. Raises UsageError."""
    known = [name for name, _ in suites.everything()]
    found = [name for name in known if word in (name, name.partition(":")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{word} is the name of several tests: {', '.join(found)}.")
    raise UsageError(f"There is no test {word}; `scripts/run full --list` names them.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
