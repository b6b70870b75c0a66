# SPDX-License-Identifier: GPL-2.0-or-later
"""A bisection between two ends: git chooses the commits. What was seen of each is kept as it happens."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cprtest.bisect.tree import Commit, Tree
from cprtest.bisect.trial import Bench, Seen
from cprtest.errors import CprError

GOOD, BAD, SKIP, ABORT = 0, 1, 125, 128
"""Exit statuses as `git bisect run` understands them."""

ONLY_SKIPPED = 2
"""Exit status of `git bisect run` when all that is left was skipped."""

SETTINGS, STEPS = "settings.json", "steps.jsonl"


@dataclass(frozen=True)
class Settings:
    """What a step has to know; kept in a file, since git starts each step as a process of its own.

    symptom: the status of the test at --bad; only that makes another commit bad.
    """

    tree: str
    work: str
    evidence: str
    test: str
    lane: str
    symptom: str = ""

    def bench(self) -> Bench:
        """Where commits are tried."""
        return Bench(Tree(Path(self.tree)), Path(self.work), Path(self.evidence), self.test, self.lane)

    def save(self) -> Path:
        """Write it down; returns where."""
        path = Path(self.evidence) / SETTINGS
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    def verdict(self, seen: Seen) -> int:
        """Good if the test passes, bad if it ends as at --bad, else nothing can be said of this commit."""
        if seen.status == "PASS":
            return GOOD
        return BAD if seen.status == self.symptom else SKIP


def load(path: Path) -> Settings:
    """The settings that save() wrote."""
    return Settings(**json.loads(path.read_text()))


def note(settings: Settings, seen: Seen, said: str) -> None:
    """Say what was seen and what that means, and keep it."""
    print(f"  {said:<5} {seen}", flush=True)
    with open(Path(settings.evidence) / STEPS, "a") as file:
        file.write(json.dumps({**asdict(seen), "verdict": said}) + "\n")


def noted(evidence: Path) -> list[dict[str, str]]:
    """All that note() kept."""
    return [json.loads(line) for line in (evidence / STEPS).read_text().splitlines()]


def step(settings: Settings) -> int:
    """What `git bisect run` calls for each commit; returns the verdict as exit status."""
    try:
        seen = settings.bench().look()
    except CprError as error:
        print(error, file=sys.stderr)
        return ABORT
    verdict = settings.verdict(seen)
    note(settings, seen, {GOOD: "good", BAD: "bad", SKIP: "skip"}[verdict])
    return verdict


def search(settings: Settings, good: Commit, bad: Commit) -> list[Commit]:
    """The first bad commit; several if those between could not be judged. Raises CprError."""
    tree = Tree(Path(settings.tree))
    command = [sys.executable, "-m", "cprtest.bisect.step", str(settings.save())]
    with _begun(tree, good, bad):
        log = Path(settings.evidence) / "git-bisect.log"
        with (
            open(log, "w") as file,
            subprocess.Popen(
                ["git", "-C", tree.path, "bisect", "run", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                if line.startswith("  "):  # ours, from note()
                    print(line, end="", flush=True)
        if process.returncode not in (0, ONLY_SKIPPED):
            raise CprError(f"git bisect run ended with status {process.returncode}; its output is in {log}.")
        return _left(tree)


@contextmanager
def _begun(tree: Tree, good: Commit, bad: Commit) -> Iterator[None]:
    tree.git("bisect", "start", bad.ident, good.ident)
    try:
        yield
    finally:
        tree.git("bisect", "reset")


def _left(tree: Tree) -> list[Commit]:
    """The commits that may be the first bad one: what the bad one has and no good one."""
    goods = tree.git("for-each-ref", "--format=^%(objectname)", "refs/bisect/good-*").split()
    names = tree.git("rev-list", "refs/bisect/bad", *goods).split()
    return [tree.commit(name) for name in names]
