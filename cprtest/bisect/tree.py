# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU git tree, and a work tree of it beside, so that the user's own files stay as they are."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cprtest.errors import CprError, UsageError


@dataclass(frozen=True)
class Commit:
    """ident: 12 digits."""

    ident: str
    subject: str

    def __str__(self) -> str:
        return f'{self.ident} ("{self.subject}")'


@dataclass(frozen=True)
class Tree:
    """A git tree, or a work tree of one."""

    path: Path

    def git(self, *words: str) -> str:
        """What git says. Raises CprError with its own words."""
        done = subprocess.run(["git", "-C", self.path, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CprError(f"`git {' '.join(words)}` failed in {self.path}: {done.stderr.strip()}")
        return done.stdout.strip()

    def commit(self, name: str) -> Commit:
        """The commit of that name. Raises UsageError."""
        try:
            told = self.git("log", "-1", "--abbrev=12", "--format=%h %s", f"{name}^{{commit}}", "--")
        except CprError:
            raise UsageError(f"{self.path} has no commit {name}; see `git log` there.") from None
        ident, _, subject = told.partition(" ")
        return Commit(ident, subject)

    def between(self, good: Commit, bad: Commit) -> int:
        """How many commits come after `good` up to `bad`. Raises UsageError: `bad` does not follow `good`."""
        if good == bad:
            raise UsageError(f"--good and --bad are both {good}.")
        if self.git("merge-base", good.ident, bad.ident) != self.git("rev-parse", good.ident):
            raise UsageError(
                f"--good {good} is no ancestor of --bad {bad}; name a commit that --bad is built upon."
            )
        return int(self.git("rev-list", "--count", f"{good.ident}..{bad.ident}"))


def opened(path: Path) -> Tree:
    """The QEMU tree at `path`. Raises UsageError: it is none."""
    if not (path / "hw" / "virtio" / "vhost.c").is_file() or not (path / "configure").is_file():
        raise UsageError(f"{path} is no source tree of QEMU; name one with --tree DIR.")
    tree = Tree(path.resolve())
    try:
        tree.git("rev-parse", "--git-dir")
    except CprError:
        raise UsageError(f"{path} is no git repository; clone QEMU's, and name it with --tree DIR.") from None
    return tree


@contextlib.contextmanager
def beside(tree: Tree, path: Path) -> Iterator[Tree]:
    """A work tree at `path`, removed at the end; it has the subprojects that the user's tree has fetched.

    git keeps the state of a bisection for each work tree, so one that the user has begun is not in the way.
    """
    _remove(tree, path)
    tree.git("worktree", "add", "--detach", "--quiet", str(path), "HEAD")
    try:
        for project in (tree.path / "subprojects").glob("*/"):
            mine = path / "subprojects" / project.name
            if not mine.exists():
                mine.symlink_to(project)
        yield Tree(path)
    finally:
        _remove(tree, path)


def _remove(tree: Tree, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    tree.git("worktree", "prune")
