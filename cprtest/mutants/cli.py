# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/mutants`: try every mutant with the tests that fit, print a table, keep what is known."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cprtest import paths
from cprtest.errors import CprError, UsageError
from cprtest.host.runs import Run
from cprtest.job import lane
from cprtest.job.prctl import set_subreaper
from cprtest.lab.launch import side_by_side
from cprtest.mutants import catalogue, tests
from cprtest.mutants.catalogue import REFERENCE, Mutant
from cprtest.mutants.worker import Verdict
from cprtest.provision.qemu_source import build_of

MOST = 3
"""Tests that a mutant has to survive. The best fitting come first."""


@dataclass(frozen=True)
class _Worker:
    """A worker in a lane, as cprtest.job.lane runs it."""

    lane: str
    directory: Path
    plan: Path

    def command(self) -> list[str]:
        """See cprtest.job.lane.Runnable."""
        python = str(paths.VENV / "bin" / "python")
        return lane.in_lane(
            self.lane, self.directory, [python, "-m", "cprtest.mutants.worker", str(self.plan)]
        )


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutants",
        description="Run the tests that fit against each mutant of QEMU. Goes on where it was stopped.",
        epilog="Exit status: 0 when the reference is clean and every mutant was killed, 1 otherwise.",
    )
    parser.add_argument("--list", action="store_true", help="list the mutants")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to FILE as JSON, too")
    parser.add_argument("--again", action="store_true", help="forget what earlier runs found out about them")
    options = parser.parse_args(words)
    try:
        wanted = catalogue.chosen(options.only)
        if options.list:
            _list(wanted)
            return 0
        return _run(wanted, options.again, options.json)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except CprError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        return 130


def _run(wanted: list[Mutant], again: bool, report: Path | None) -> int:
    set_subreaper()
    build = build_of("mutants").directory.name
    root = paths.CHECKOUT / "results" / "mutants" / build
    root.mkdir(parents=True, exist_ok=True)
    results = root / "verdicts.jsonl"
    if again:
        _forget(results, {mutant.name for mutant in wanted})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    known = _known(results)
    suite = tests.of_suite("smoke")
    todo = [mutant for mutant in wanted if mutant.name not in known]
    plans = {name: _plan(name, [m for m in todo if m.lane == name], suite, known) for name in ("here", "lab")}
    with Run.start():
        for name, tries in plans.items():
            if tries:
                _work(name, tries, root, results)
    known = _known(results)
    return _judge(wanted, known, report)


def _plan(
    name: str, todo: list[Mutant], suite: list[catalogue.Test], known: dict[str, Verdict]
) -> list[dict[str, Any]]:
    """What a lane has to try: the reference first, with all tests that are used against its mutants."""
    most = MOST if name == "lab" else len(suite)
    tries: list[dict[str, Any]] = [
        {"mutant": m.name, "phase": m.phase, "tests": catalogue.fitting(m, suite, most)} for m in todo
    ]
    used = list(dict.fromkeys(test for attempt in tries for test in attempt["tests"]))
    reference = f"{REFERENCE}-{name}"
    if used and reference not in known:
        tries.insert(0, {"mutant": reference, "phase": "", "tests": used})
    return [attempt for attempt in tries if attempt["tests"]]


def _work(name: str, tries: list[dict[str, Any]], root: Path, results: Path) -> None:
    count = 1 if name == "here" else min(len(tries), side_by_side())
    workers = []
    for number in range(count):
        directory = root / (name if name == "here" else f"{name}-{number + 1}")
        directory.mkdir(exist_ok=True)
        plan = directory / "plan.json"
        own = results if name == "here" else directory / "verdicts.jsonl"
        plan.write_text(
            json.dumps({"directory": str(directory), "results": str(own), "tries": tries[number::count]})
        )
        workers.append(_Worker(name, directory, plan))
    print(f"{len(tries)} tries {'here' if name == 'here' else f'in {count} labs'}.", flush=True)
    ended = lane.run(workers)
    for worker in workers:
        own = worker.directory / "verdicts.jsonl"
        if own.exists():  # a lab has a file of its own: appending from two labs at once is not safe
            with results.open("a") as together:
                together.write(own.read_text())
            own.unlink()
    if any(end.interrupted for end in ended):
        raise KeyboardInterrupt
    if failed := [end for end in ended if end.status]:
        raise CprError(f"A worker in lane {name} ended with status {failed[0].status}; see above.")


def _forget(results: Path, names: set[str]) -> None:
    """Drop the verdicts on `names`, and on the reference, which the tests may find different now."""
    kept = [v for name, v in _known(results).items() if name not in names and not name.startswith(REFERENCE)]
    results.write_text("".join(json.dumps(asdict(verdict)) + "\n" for verdict in kept))


def _known(results: Path) -> dict[str, Verdict]:
    lines = results.read_text().splitlines() if results.exists() else []
    verdicts = [Verdict(**json.loads(line)) for line in lines]
    return {verdict.mutant: verdict for verdict in verdicts}


def _judge(wanted: list[Mutant], known: dict[str, Verdict], report: Path | None) -> int:
    table = Table(box=None, header_style="bold")
    for column in ("mutant", "phase", "fate", "by", "phase named"):
        table.add_column(column)
    killed = 0
    for mutant in wanted:
        verdict = known.get(mutant.name)
        if verdict is None:
            table.add_row(mutant.name, mutant.phase, "no test fits", "", "")
            continue
        killed += verdict.killed
        fate = "killed" if verdict.killed else "survived" if verdict.struck else "not reached"
        named = ("yes" if verdict.phase_named else "no") if verdict.killed else ""
        table.add_row(mutant.name, mutant.phase, fate, verdict.killed_by, named)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    references = [verdict for name, verdict in known.items() if name.startswith(f"{REFERENCE}-")]
    clean = bool(references) and not any(verdict.killed for verdict in references)
    for verdict in references:
        if verdict.killed:
            print(f"{verdict.mutant} is not clean: {verdict.killed_by}: {verdict.message}")
    if report:
        data = [asdict(m) | asdict(known[m.name]) for m in wanted if m.name in known]
        report.write_text(json.dumps({"reference_clean": clean, "mutants": data}, indent=1) + "\n")
    print(f"MUTANTS killed {killed} of {len(wanted)}, reference clean: {'yes' if clean else 'no'}")
    return 0 if clean and killed == len(wanted) else 1


def _list(mutants: list[Mutant]) -> None:
    for mutant in mutants:
        corpus = f" ({mutant.corpus})" if mutant.corpus else ""
        print(f"{mutant.name}: {mutant.phase}: {mutant.summary} Seen: {mutant.seen}{corpus}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
