# SPDX-License-Identifier: GPL-2.0-or-later
"""Only what pyproject.toml cannot say: a wheel carries the rest of the tree, too (cprtest/unpack.py)."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("assets", "ci", "docs", "hosts", "scripts", "tests", ".ci")
FILES = ("*.md", "*.toml", "*.cfg", "LICENSE", "setup.py", ".gitlab-ci.yml", ".gitignore", ".containerignore")
NOT = shutil.ignore_patterns("__pycache__", "*.pyc")


class WithTree(build_py):
    """Copies the tree, but for cprtest itself, into cprtest/tree of the wheel."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        tree = Path(self.build_lib) / "cprtest" / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        for folder in filter(Path.is_dir, map(Path, FOLDERS)):
            shutil.copytree(folder, tree / folder, ignore=NOT, symlinks=False)
        for pattern in FILES:
            for file in Path().glob(pattern):
                shutil.copy2(file, tree)


setup(cmdclass={"build_py": WithTree})
