# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `scripts/run`. Standard library only: it is judged before set-up."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cprtest import manpage
from cprtest.errors import UsageError
from cprtest.host import hostfile
from cprtest.job import suites
from cprtest.lab import devices
from cprtest.machine.features import features
from cprtest.provision.qemu_source import BUILT, flavour_of, named, packaged

_REFUSED = {
    **dict.fromkeys(
        ("-m", "--mux-yaml", "--cit-parameter-file", "--json-variants-load"),
        "variants are given as --variants FILE, so that each lane gets its own",
    ),
    **dict.fromkeys(
        ("-t", "--filter-by-tags", "--filter-by-tags-include-empty", "--filter-by-tags-include-empty-key"),
        "the suite says which tests run; see docs/writing-tests.md for one",
    ),
    **dict.fromkeys(
        ("--json", "--xunit", "--tap"), "each job would write that file; see docs/results.md for ours"
    ),
}
"""Options of Avocado's that a run gives, or does, itself."""

LANES = ("auto", "here", "lab")
EXPLORE = ("hours", "seed", "plan")
"""Options that are Avocado parameters of the tests that explore."""

_EPILOG = manpage.sections(
    files="""
        DIR/report/index.html   the report, one file that can be mailed
        DIR/results.json        all results (docs/results.md); results.xml is JUnit, results.tap is TAP
        DIR/here-N, DIR/lab-N   the evidence of each test
        results/latest          the last run without --results
        """,
    exit_status="""
        0    at least one test ran, nothing failed, erred or was interrupted, the run itself had no problem
        1    otherwise; the last line of output has the counts
        2    wrong command line
        130  interrupted before a lane began, as in set-up
        """,
    examples="""
        scripts/run
        scripts/run full --qemu ~/qemu/build/qemu-system-x86_64 --against results/last-week
        scripts/run --qemu /usr/bin/old-qemu --target-qemu ~/qemu/build/qemu-system-x86_64
        scripts/run soak -- -p count=10              (what follows -- is passed on to `avocado run`)
        .venv/bin/avocado --config avocado.cfg run FILE:Class.test                        (one test, here)
        scripts/lab run .venv/bin/avocado --config avocado.cfg run FILE:Class.test        (in the lab)
        """,
)


@dataclass(frozen=True)
class Qemu:
    """A QEMU of the user's. word: its path, or the name of a build of ours, of that flavour."""

    word: str
    version: str
    flavour: str | None = None


@dataclass(frozen=True)
class Arguments:
    """What the user asked for, checked. None: the default."""

    suite: str
    lane: str
    explore: dict[str, str]
    jobs: int | None
    labs: int | None
    qemu: Qemu | None
    target_qemu: Qemu | None
    results: Path | None
    against: Path | None
    variants: Path | None
    lab_devices: tuple[str, ...]
    avocado: tuple[str, ...]
    problems: tuple[str, ...]
    listing: bool = False
    as_json: bool = False

    def parameters(self) -> dict[str, str]:
        """The Avocado parameters that tell tests which QEMU to use."""
        given = {"qemu_bin": self.qemu, "target_qemu_bin": self.target_qemu}
        return {name: qemu.word for name, qemu in given.items() if qemu is not None} | self.explore

    @property
    def hours(self) -> float | None:
        """How long a test of the suite may take; None for what avocado.cfg says."""
        allowed = suites.HOURS.get(self.suite)
        return None if allowed is None else allowed + float(self.explore.get("hours", 0))

    def flavours(self) -> set[str]:
        """The builds of ours that the user named, or the suite wants."""
        given = {qemu.flavour for qemu in (self.qemu, self.target_qemu) if qemu and qemu.flavour}
        return given | suites.BUILDS.get(self.suite, set())

    def set_up(self) -> list[list[str]]:
        """What makes everything ready that was asked for: commands of scripts/, in order."""
        extra = () if self.listing else suites.SET_UP.get(self.suite, ())
        return [["setup", *extra], *(["build-qemu", name] for name in sorted(self.flavours()))]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}; see scripts/run --help.")


def parse(words: list[str]) -> Arguments:
    """The arguments in `words`, those of the command line. Raises UsageError, one sentence."""
    ours, avocado = words, []
    if "--" in words:
        ours, avocado = words[: words.index("--")], words[words.index("--") + 1 :]
    if named := [word for word in words if word.partition(":")[0].endswith(".py")]:
        raise UsageError(
            f"{named[0]}: scripts/run runs suites. For a test by its name: .venv/bin/avocado --config "
            "avocado.cfg run FILE:CLASS.TEST, in the lab with `scripts/lab run` before it."
        )
    parser = _Parser(
        prog="scripts/run",
        usage="scripts/run [SUITE] [--qemu BIN] [--target-qemu BIN] [--lane auto|here|lab] [--jobs N] "
        "[--labs N] [--lab-devices ROLES] [--variants FILE] [--results DIR] [--against DIR] [--hours N] "
        "[--seed S] [--plan TEXT] [-- AVOCADO ARGS]\n"
        "       scripts/run [SUITE] --list [--json]",
        description="Set up what is missing, run a suite, write the report.",
        epilog=_EPILOG,
        formatter_class=manpage.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "suite", nargs="?", default="smoke", help=f"{', '.join(suites.SUITES)} (default: smoke)"
    )
    parser.add_argument(
        "--qemu",
        metavar="BIN",
        help="QEMU under test: a binary, 10.0 or later, or stock, reference (default), mutants:NAME, "
        f"{', '.join(packaged())}",
    )
    parser.add_argument(
        "--target-qemu", metavar="BIN", help="another QEMU for the target (default: as --qemu)"
    )
    parser.add_argument(
        "--lane",
        choices=LANES,
        default="auto",
        help="here: on this host; lab: in a throw-away VM that has everything; auto: here what can be here, "
        "the rest in the lab (default)",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=_positive,
        help="jobs that share this host's tests (default: one for each CPU, at most 4; one if the host file "
        "lists devices, and for soak, explore, sweep and downtime)",
    )
    parser.add_argument(
        "--labs",
        metavar="N",
        type=_positive,
        help="labs that share the lab's tests (default: one on KVM, else one for each CPU, at most 4)",
    )
    parser.add_argument(
        "--lab-devices",
        metavar="ROLES",
        type=_roles,
        default=(),
        help="devices to pass through that labs have, separated by commas (default: all; docs/lab.md)",
    )
    parser.add_argument(
        "--variants",
        metavar="FILE",
        type=Path,
        help="run each test with each variant in FILE: .csv, .cit, .yaml or .json "
        "(default: tests/vars/SUITE.csv where there is one; docs/hardware.md)",
    )
    parser.add_argument(
        "--results", metavar="DIR", type=Path, help="where results go (default: results/TIME-PID)"
    )
    parser.add_argument(
        "--against",
        metavar="DIR",
        type=Path,
        help="the results of an earlier run, to compare with in the report",
    )
    parser.add_argument(
        "--list", action="store_true", help="name the tests with what they promise and need, and run none"
    )
    parser.add_argument("--json", action="store_true", help="with --list: as JSON (docs/results.md)")
    parser.add_argument(
        "--hours", metavar="N", type=_hours, help="how long soak and explore search for faults"
    )
    parser.add_argument("--seed", metavar="S", type=int, help="the number that their choices follow from")
    parser.add_argument("--plan", metavar="TEXT", help="explore: only this plan, as a failure named it")
    parser.add_argument(
        "--problem",
        metavar="SENTENCE",
        action="append",
        default=[],
        help="something that went wrong before, to be part of the report and of the exit status",
    )
    given = parser.parse_args(ours)
    suites.tags_of(given.suite)
    if given.json and not given.list:
        raise UsageError("--json goes with --list; a run writes results.json by itself.")
    explore = {name: str(value) for name in EXPLORE if (value := getattr(given, name)) is not None}
    if explore and "explore" not in suites.SUITES[given.suite]:
        raise UsageError(
            f"--{next(iter(explore))} is for the suites soak and explore, not for {given.suite}."
        )
    for word in avocado:
        if why := _REFUSED.get(word.partition("=")[0]):
            raise UsageError(f"{word}: {why}.")
    if given.lane != "lab":
        hostfile.check_readable()
    devices.chosen(devices.assignable(ivshmem_mib=[0], disk_fd=0), given.lab_devices)
    return Arguments(
        suite=given.suite,
        lane=given.lane,
        explore=explore,
        jobs=given.jobs,
        labs=given.labs,
        qemu=_qemu("--qemu", given.qemu),
        target_qemu=_qemu("--target-qemu", given.target_qemu),
        results=_results(given.results),
        against=_against(given.against),
        variants=given.variants,
        lab_devices=given.lab_devices,
        avocado=tuple(avocado),
        problems=tuple(given.problem),
        listing=given.list,
        as_json=given.json,
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of jobs or labs")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 1000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of hours")
    return hours


def _roles(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _qemu(option: str, name: str | None) -> Qemu | None:
    if name is None:
        return None
    build = named(name)
    if build is not None:
        whose = "our build" if build.flavour in BUILT else "Debian's"
        return Qemu(name, f"{flavour_of(build.flavour).version}, {whose}", build.flavour)
    path = Path(name).expanduser().absolute()
    try:
        return Qemu(str(path), features(path).text)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None


def _against(given: Path | None) -> Path | None:
    if given is None:
        return None
    path = given.expanduser().absolute()
    if not (path / "results.json").is_file():
        raise UsageError(f"--against {given}: there is no results.json in it.")
    return path


def _results(given: Path | None) -> Path | None:
    if given is None:
        return None
    path = given.expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise UsageError(f"--results {given}: this is a file.")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"--results {given}: this directory is not empty; results of two runs would mix.")
    return path
