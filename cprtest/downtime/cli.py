# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/downtime`: run experiments, or read the record of a run, and say what they show."""

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cprtest import paths
from cprtest.downtime import compare, judge, plans, table
from cprtest.downtime.record import Journal, Record
from cprtest.downtime.sample import take, unable
from cprtest.downtime.series import run
from cprtest.downtime.settings import DEFAULTS, MODES, Experiment, parsed
from cprtest.errors import NotInstalled, UsageError, exit_status
from cprtest.host import kvm
from cprtest.host.runs import Run
from cprtest.job.prctl import set_subreaper
from cprtest.limits import emulated
from cprtest.paths import lane
from cprtest.provision import installed
from cprtest.report import about

_HELP = """
What a hand-over costs, as the guest has it: how long its vCPUs, its network and its disk stood still, and
QEMU's own figure, divided by phase. Settings are measured in turns, in shuffled order, each time with a fresh
guest; the first of an experiment a second time, which tells the noise. A difference is reported only if it is
significant (permutation test within blocks, p < 0.01) and larger than the noise.

Stopped (Ctrl-C), the same command goes on where it was.
"""


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(words)
    set_subreaper()
    return exit_status(lambda: _run(options), "Stopped. The same command goes on from here.")


def _run(options: argparse.Namespace) -> int:
    if options.read:
        return _told([Record.read(path) for path in options.read], options)
    record = _measured(options)
    if record is None:
        print("Not finished. The same command goes on from here.", file=sys.stderr)
        return 3
    return _told([record], options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/downtime",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_epilog(),
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="only these; see below")
    plan = what.add_mutually_exclusive_group()
    plan.add_argument("--quick", dest="plan", action="store_const", const="quick", help="5 minutes (default)")
    plan.add_argument("--full", dest="plan", action="store_const", const="full", help="15 minutes to an hour")
    what.add_argument("--ab", nargs="+", metavar="SETTING", help="these settings against the first of them")
    base = "what experiments begin with, as vhost=yes or memory=1024"
    what.add_argument("--with", dest="base", default="reference", metavar="SETTING", help=base)
    what.add_argument("--blocks", type=_positive, metavar="N", help="samples of each setting")
    what.add_argument("--seed", type=int, help="of the order (default: another each time)")
    what.add_argument("--minutes", type=float, help="stop after so long; the same command goes on")
    told = parser.add_argument_group("what becomes of it")
    told.add_argument("--json", type=Path, metavar="FILE", help="the record: every sample")
    told.add_argument(
        "--read", nargs="+", type=Path, metavar="FILE", help="measure nothing, read these records"
    )
    told.add_argument("--compare", type=Path, metavar="OLD.json", help="tell regressions from noise")
    limit = "fail if a QEMU's pause is R times longer than, or cannot be judged against (--ab)"
    told.add_argument("--max-ratio", type=float, metavar="R", help=limit)
    told.add_argument("--against", default="reference", metavar="SETTING", help="that of this first setting")
    told.add_argument("--plots", type=Path, metavar="DIR", help="write plots, SVG and PNG")
    told.add_argument("--page", type=Path, metavar="FILE.md", help="write the page, with plots beside it")
    return parser


def _epilog() -> str:
    """What the words on the command line may be."""
    experiments = (f"  {name:10} {idea.question}" for name, idea in plans.IDEAS.items())
    modes = (f"  {name:17} {what}" for name, what in MODES.items())
    fields = (f"  {name:10} {value}" for name, value in DEFAULTS.items())
    return "\n".join(
        [
            *("experiments:", *experiments, ""),
            *("modes:", *modes, ""),
            "a setting is [MODE@]QEMU[,NAME=VALUE...], as in reference,load=memory or cpr-exec@reference;",
            "QEMU is a path, stock, reference or mutants:NAME; other names, and what they are by default:",
            *(*fields, ""),
            "Exit status: 0, 1 when --max-ratio is exceeded or could not be judged, or --compare finds a",
            "longer pause, 2 for a wrong command line, 3 when --minutes ended it before it was done.",
        ]
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of blocks")
    return int(text)


def _experiments(options: argparse.Namespace) -> list[Experiment]:
    if options.ab:
        if options.experiments:
            raise UsageError("Give experiments or --ab, not both.")
        return plans.compared(options.ab, options.blocks or 20)
    word = options.base if "=" not in options.base.split(",")[0] else f"reference,{options.base}"
    return plans.planned(options.experiments, options.plan or "quick", parsed(word), options.blocks)


def _measured(options: argparse.Namespace) -> Record | None:
    """Run what is wanted, or the rest of it; None when the time was up."""
    experiments = _experiments(options)
    name = "ab" if options.ab else "-".join(options.experiments) or options.plan or "quick"
    path = options.json or paths.CHECKOUT / "results" / "downtime" / f"{lane()}-{name}.json"
    seed = random.randrange(10**6) if options.seed is None else options.seed
    journal = Journal(path, _about(seed, experiments), experiments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if journal.resume():
        console.print(f"Going on with {path}: {len(journal.record.turns)} samples are there.")
    else:
        journal.begin(_missing(experiments))
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
    with Run.start(), _Progress(console, journal) as progress:
        whole = run(journal, journal.record.about["seed"], take, progress.show, deadline)
    if not whole:
        return None
    record = journal.finish()
    console.print(f"record: {path}")
    return record


def _missing(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Settings that cannot be measured here, with the reason."""
    found = {}
    for setting in {setting for experiment in experiments for setting in experiment.settings}:
        try:
            reasons = unable(setting)
        except NotInstalled as error:
            reasons = [str(error)]
        if reasons:
            found[str(setting)] = " ".join(reasons)
    return found


def _about(seed: int, experiments: Sequence[Experiment]) -> dict[str, object]:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return {
        "when": when,
        "lane": lane(),
        "kvm": _kvm(),
        "seed": seed,
        "host": about.host(),
        "versions": about.versions(),
        "builds": _builds(experiments),
    }


def _kvm() -> str:
    """What guests run on: hardware, a KVM that is emulated, or none."""
    if kvm.unusable(None):
        return "none"
    return "emulated" if emulated() else "hardware"


def _builds(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Which binary each QEMU of the experiments is: one that is built anew is another."""
    found = {}
    for name in sorted({setting.qemu for one in experiments for setting in one.settings}):
        with contextlib.suppress(NotInstalled, OSError):
            binary = installed.under_test(name).binary.resolve()
            status = binary.stat()
            found[name] = f"{binary}, {status.st_size} bytes, {time.ctime(status.st_mtime)}"
    return found


class _Progress:
    """A bar with the time that is left; the table of each experiment when it is done."""

    def __init__(self, console: Console, journal: Journal) -> None:
        self._console, self._journal = console, journal
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                   TextColumn("{task.fields[left]}"))  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None, left="")
        self._shown = self._present()

    def show(self, done: int, count: int, left: float) -> None:
        """What cprtest.downtime.series tells."""
        now = self._present()
        if now != self._shown:
            for number in range(self._shown or 0, now or 0):
                told(self._journal.record, number, self._console)
            self._shown = now
        name = self._journal.record.experiments[now].name if now is not None else "starting"
        until = time.strftime("%H:%M", time.localtime(time.time() + left))
        self._bar.update(
            self._task, description=name, completed=done, total=count, left=f"until about {until}"
        )
        if not self._console.is_terminal and done and done % 50 == 0:
            self._console.print(f"{done} of {count}, until about {until}")

    def _present(self) -> int | None:
        turns = self._journal.record.turns
        return turns[-1].experiment if turns else None

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def told(record: Record, number: int, console: Console) -> None:
    """Print what experiment `number` shows."""
    console.print(table.table(record, number))
    console.print(table.phases(record, number))
    for sentence in table.slopes(record, number):
        console.print(f"  {sentence}")
    console.print()


def _told(records: Sequence[Record], options: argparse.Namespace) -> int:
    """Print, draw and judge; returns the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for record in records:
        last = max((turn.experiment for turn in record.turns), default=0)
        for number in range(0 if options.read else last, len(record.experiments)):  # others have been shown
            told(record, number, console)
    if options.page or options.plots:
        from cprtest.downtime import page, plots  # noqa: PLC0415  (matplotlib takes a second to import)

        for record in records if options.plots else ():
            plots.draw(record, options.plots / record.about["lane"], ("svg", "png"))
        if options.page:
            page.write(records, options.page)
    wrong = []
    for record in records:
        if options.max_ratio:
            wrong += judge.too_slow(record, options.max_ratio, options.against)
        if options.compare:
            wrong += _regressions(Record.read(options.compare), record, options.compare)
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


def _regressions(old: Record, new: Record, path: Path) -> list[str]:
    """Print what changed since the old record; returns what takes longer."""
    found = compare.changes(old, new)
    if not found:
        raise UsageError(f"{path} has no experiment and setting in common with this record.")
    print("\n".join(map(str, found)))
    first = [
        f"{name}: the first setting: all others got shorter beside it"
        for name in compare.first_is_longer(found)
    ]
    slow = [f"TOO SLOW {one}" for one in (*(one for one in found if one.longer), *first)]
    return slow + [f"NOT JUDGED {one}" for one in found if one.lost]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
