# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/mutants`: try every mutant with the tests that fit, print a table, keep what is known."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cprtest import manpage, paths
from cprtest.errors import exit_status
from cprtest.host.runs import Run
from cprtest.job.prctl import set_subreaper
from cprtest.mutants import catalogue, tests
from cprtest.mutants.catalogue import Mutant
from cprtest.mutants.trial import LANES, Settings, Trial
from cprtest.mutants.verdicts import Book, Checked, Verdict
from cprtest.provision.qemu_source import build_of

_EPILOG = manpage.sections(
    files="results/mutants        what is known so far, and the evidence of every trial",
    exit_status="""
        0  the reference is clean and every mutant was killed
        1  otherwise; the last line of output has the counts
        2  wrong command line
        """,
    examples="scripts/mutants --only stop-slow acquire-slow --lane here",
)


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutants",
        description=manpage.description(
            """
            Break the reference QEMU in one place after the other, run the tests that fit against each
            mutant, and see which test notices, and which phase it blames. A mutant is killed when a test
            fails. Goes on where it was stopped.
            """
        ),
        epilog=_EPILOG,
        formatter_class=manpage.Formatter,
    )
    parser.add_argument("--list", action="store_true", help="list the mutants")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table to FILE as JSON, too")
    parser.add_argument("--again", action="store_true", help="forget what earlier runs found out about them")
    parser.add_argument("--lane", choices=LANES, help="try in this lane only (default: here, then the lab)")
    parser.add_argument("--labs", type=int, metavar="N", help="labs side by side")
    options = parser.parse_args(words)
    return exit_status(lambda: _asked(options), "Stopped. The same command goes on from here.")


def _asked(options: argparse.Namespace) -> int:
    wanted = catalogue.chosen(options.only)
    if options.list:
        _list(wanted)
        return 0
    settings = Settings((options.lane,) if options.lane else LANES, options.labs)
    return _run(wanted, settings, options.again, options.json)


def _run(wanted: list[Mutant], settings: Settings, again: bool, report: Path | None) -> int:
    set_subreaper()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    book = Book(paths.CHECKOUT / "results" / "mutants" / build_of("mutants").directory.name)
    if again:
        book.forget(mutant.name for mutant in wanted)
    with Run.start():
        Trial(wanted, tests.all_of_them(), book, settings).run()
    return _judge(wanted, book.verdicts(), book.reference(), report)


def _judge(
    wanted: list[Mutant], known: dict[str, Verdict], reference: list[Checked], report: Path | None
) -> int:
    table = Table(box=None, header_style="bold")
    for column in ("mutant", "phase", "fate", "by", "phase named"):
        table.add_column(column)
    killed = 0
    for mutant in wanted:
        verdict = known.get(mutant.name)
        if verdict is None:
            table.add_row(mutant.name, mutant.phase, "not tried", "", "")
            continue
        killed += verdict.killed
        fate = "killed" if verdict.killed else "survived" if verdict.struck else "not reached"
        named = ("yes" if verdict.phase_named else "no") if verdict.killed else ""
        table.add_row(mutant.name, mutant.phase, fate, verdict.killer, named)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    dirty = [line for line in reference if line.status == "failed"]
    clean = any(line.status == "clean" for line in reference) and not dirty
    for line in dirty:
        print(line)
    if report:
        data = [asdict(m) | asdict(known[m.name]) for m in wanted if m.name in known]
        report.write_text(json.dumps({"reference_clean": clean, "mutants": data}, indent=1) + "\n")
    print(f"MUTANTS killed {killed} of {len(wanted)}, reference clean: {'yes' if clean else 'no'}")
    return 0 if clean and killed == len(wanted) else 1


def _list(mutants: list[Mutant]) -> None:
    width = max(len(mutant.name) for mutant in mutants)
    for mutant in mutants:
        about = ", ".join(filter(None, [*mutant.needs, mutant.corpus]))
        print(f"{mutant.name:{width}}  {mutant.lane:4}  {mutant.summary} [{about}]")
        print(f"{'':{width}}        seen: {mutant.seen}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
