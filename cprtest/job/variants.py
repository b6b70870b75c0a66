# SPDX-License-Identifier: GPL-2.0-or-later
"""The variants of a run: worked out once, before any lane; each job is given its own as Avocado's JSON.

A file of variants is a table (.csv, a column for each axis, as cprtest.job.reduction makes it), a parameter
file of Avocado's CIT plugin (.cit), a tree of its YAML plugin (.yaml), or Avocado's own JSON (.json).
"""

import csv
import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest import paths
from cprtest.errors import UsageError

DIRECTORY = "tests/vars"


@dataclass(frozen=True)
class Variant:
    """One variant: `name` is what follows the test's name, `raw` Avocado's own form (core/varianter.py)."""

    name: str
    raw: dict[str, Any]


def default(suite: str) -> Path | None:
    """The file with the variants of `suite`, where it has some: tests/vars/SUITE.csv."""
    file = paths.CHECKOUT / DIRECTORY / f"{suite}.csv"
    return file if file.exists() else None


def read(file: Path) -> list[Variant]:
    """The variants in `file`. Raises UsageError when there are none, or it is no such file."""
    if not file.is_file():
        raise UsageError(
            f"--variants {file}: there is no such file; those of the project are in {DIRECTORY}."
        )
    readers = {".csv": _from_table, ".cit": _from_cit, ".yaml": _from_avocado, ".json": _from_avocado}
    if file.suffix not in readers:
        raise UsageError(f"--variants {file}: its name has to end in one of {', '.join(readers)}.")
    found = readers[file.suffix](file)
    if not found:
        raise UsageError(f"--variants {file}: there is no variant in it.")
    return found


def from_rows(axes: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Variant]:
    """A variant for each row of a table, named by its values."""
    return [_named("-".join(row), dict(zip(axes, row, strict=True))) for row in rows]


def names(tests: Iterable[str], variants: Sequence[Variant]) -> list[str]:
    """What Avocado calls the tests: all of them with each variant, or as they are where there is none."""
    return [f"{test};{variant.name}" for variant in variants for test in tests] if variants else list(tests)


def of(tests: Iterable[str], variants: Sequence[Variant]) -> list[Variant]:
    """The variants that `tests`, names with a variant, ask for; in the order of the tests."""
    known = {variant.name: variant for variant in variants}
    wanted = dict.fromkeys(name.partition(";")[2] for name in tests)
    return [known[name] for name in wanted if name in known]


def write(file: Path, variants: Iterable[Variant], parameters: dict[str, str]) -> None:
    """Avocado's JSON file of `variants`, all with `parameters` as well: it refuses -p beside variants."""
    more = [["/", name, value] for name, value in parameters.items()]
    states = [
        {**variant.raw, "variant": [[path, [*values, *more]] for path, values in variant.raw["variant"]]}
        for variant in variants
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(states) + "\n")


def _named(name: str, values: dict[str, str]) -> Variant:
    leaf = ["/", [["/", axis, value] for axis, value in values.items()]]
    return Variant(name, {"variant_id": name, "paths": ["/"], "variant": [leaf]})


def _from_table(file: Path) -> list[Variant]:
    with file.open(newline="") as lines:
        axes, *rows = csv.reader(lines)
    return from_rows(axes, rows)


def _from_cit(file: Path) -> list[Variant]:
    from cprtest.job import reduction  # noqa: PLC0415 - see its docstring: slow, and seldom asked for

    found = reduction.reduced(reduction.read(file), reduction.PAIRS)
    return from_rows(found.space.names, found.rows)


def _from_avocado(file: Path) -> list[Variant]:
    """What Avocado itself makes of a YAML or JSON file."""
    option = {".yaml": "--mux-yaml", ".json": "--json-variants-load"}[file.suffix]
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch, "variants")
        avocado = [str(paths.VENV / "bin" / "avocado"), "variants", option, str(file)]
        done = subprocess.run(
            [*avocado, "--json-variants-dump", str(dump)], capture_output=True, text=True, check=False
        )
        if done.returncode or not dump.exists():
            lines = (done.stderr + done.stdout).strip().splitlines() or ["no reason given"]
            raise UsageError(f"--variants {file}: Avocado cannot read it: {lines[-1].strip()}")
        return [Variant(state["variant_id"], state) for state in json.loads(dump.read_text())]
