# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/run`, once set-up is done: the lanes one after the other, then the report.

Called as `python -m cprtest.job.run ARGUMENTS` with the venv's Python.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cprtest import paths
from cprtest.errors import CprError, UsageError, exit_status
from cprtest.host import hostfile
from cprtest.host.runs import Run
from cprtest.job import arguments, lane, listing, shares, suites, variants
from cprtest.job.plan import Plan
from cprtest.job.prctl import set_subreaper
from cprtest.lab.launch import cpus, side_by_side
from cprtest.report import about, merge
from cprtest.report.evidence import promise_of
from cprtest.report.model import Lane, Result, Results
from cprtest.report.write import REPORT, write, write_json


@dataclass
class Progress:
    """What a run has come to so far. root: where its results are."""

    root: Path
    lanes: list[Lane] = field(default_factory=list)
    results: dict[str, list[Result]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


def main(words: list[str]) -> int:
    """Run a suite; the exit status: 0, 1, or 2 for a wrong command line."""
    _say_lines_at_once()
    return exit_status(lambda: _asked(words), "Interrupted.")


def _asked(words: list[str]) -> int:
    asked = arguments.parse(words)
    tests = suites.members(asked.suite)
    if not tests:
        raise UsageError(suites.empty(asked.suite))
    file = asked.variants or variants.default(asked.suite)
    plan = Plan(asked, tests, tuple(variants.read(file)) if file else ())
    if asked.listing:
        found = listing.entries(plan.names)
        print(listing.as_json(asked.suite, found) if asked.as_json else listing.as_text(found))
        return 0
    if asked.lane != "lab":
        hostfile.current()  # one that is wrong is one sentence, and not an error of each test
    root = _results_directory(asked.results)
    set_subreaper()
    with _terminated_as_interrupted():
        return _run(plan, root)


def _run(plan: Plan, root: Path) -> int:
    asked = plan.asked
    started, clock = datetime.now().astimezone(), time.monotonic()
    progress = Progress(root, problems=list(asked.problems))
    planned = Results(
        suite=asked.suite,
        command=("scripts/run", *sys.argv[1:]),
        started=started.isoformat(timespec="seconds"),
        duration=0.0,
        host=about.host(),
        versions={**_chosen(asked), **about.versions()},
        lanes=(),
        tests=tuple(_merged(plan.names, progress)),
        finished=False,
    )
    write_json(planned, root)
    try:
        run = Run.start()
        # A test has a run of its own; its owner may have been among what was just killed.
        for sentence in run.cleaned:
            print(sentence)
        with run:
            _run_lanes(plan, progress)
            progress.problems += run.close()
    except KeyboardInterrupt:
        progress.interrupted = True
        progress.problems.append("The run was interrupted by the user.")
    except Exception as error:
        if not isinstance(error, CprError):
            traceback.print_exc()
        progress.problems.append(f"{type(error).__name__}: {error}" if not str(error) else str(error))
    results = dataclasses.replace(
        planned,
        duration=round(time.monotonic() - clock, 3),
        lanes=tuple(progress.lanes),
        tests=tuple(_merged(plan.names, progress)),
        problems=tuple(progress.problems),
        finished=True,
    )
    results = write(results, root, asked.against)
    _list(results)
    print(results.summary(str(root / REPORT)), flush=True)
    return results.exit_status()


def _run_lanes(plan: Plan, progress: Progress) -> None:
    asked = plan.asked
    if asked.lane != "lab":
        if asked.lane == "auto":
            os.environ[paths.LAB_FOLLOWS] = "1"
        _run_shares(plan, "here", plan.names, asked.jobs or _jobs_here(asked.suite), progress)
    if asked.lane == "here" or progress.interrupted:
        return
    here = progress.results.get("here")
    todo = plan.names if here is None else [test.name for test in here if test.status == "CANCEL"]
    if todo:
        labs = min(len(todo), asked.labs or side_by_side())
        where = "the lab" if labs == 1 else f"{labs} labs side by side"
        print(f"\n{len(todo)} of {len(plan.names)} tests run in {where}.", flush=True)
        _run_shares(plan, "lab", todo, labs, progress)


def _run_shares(plan: Plan, lane_name: str, names: list[str], count: int, progress: Progress) -> None:
    """Run the tests in `count` jobs side by side, called LANE-1, LANE-2 and so on; all in one: LANE."""
    if plan.variants and len(plan.tests) > 1:
        count = 1  # a job runs each of its tests with each of its variants
    divided = shares.shared(names, count, lane_name)
    if len(divided) == 1 and names == plan.names:
        tags = suites.tags_of(plan.asked.suite)
        # Avocado reads them faster than name by name.
        jobs = [plan.job(lane_name, [suites.TESTS], tags, names, progress.root)]
    else:
        jobs = [plan.share(f"{lane_name}-{n}", share, progress.root) for n, share in enumerate(divided, 1)]
    _run_lane(jobs, divided, progress)
    shares.remember(lane_name, progress.results.get(lane_name, []))


def _jobs_here(suite: str) -> int:
    """How many jobs share this host's tests: one where the host has devices for one only (suites.ALONE)."""
    host = hostfile.current()
    if suite in suites.ALONE or host.devices or host.vdpa:
        return 1
    return cpus()


def _run_lane(jobs: list[lane.Job], expected: list[list[str]], progress: Progress) -> None:
    """Run the jobs of a lane; `expected` are the tests of each."""
    clock = time.monotonic()
    for job, ended, names in zip(jobs, lane.run(jobs), expected, strict=True):
        journal = merge.read_journal(job.directory)
        results = merge.lane_results(ended, journal, names, progress.root)
        progress.results.setdefault(job.lane, []).extend(results)
        progress.interrupted = progress.interrupted or ended.interrupted
        progress.problems += [p for p in merge.problems(ended, results) if p not in progress.problems]
        progress.lanes.append(
            Lane(
                name=job.lane,
                directory=str((journal.directory if journal else job.directory).relative_to(progress.root)),
                status=ended.status,
                interrupted=ended.interrupted,
                patience=journal.patience if journal else None,
                duration=round(time.monotonic() - clock, 3),
            )
        )


def _list(results: Results) -> None:
    """Print what a reader of the log has to know besides the counts."""
    tested = [f"{name}: {version}" for name, version in results.versions.items() if name.startswith("QEMU ")]
    print(f"\n{'; '.join(tested)}")
    for test in results.tests:
        if test.status != "PASS":
            defect = f"{test.defect}: " if test.defect else ""
            print(f"{test.status:9} {test.name} ({test.lane}): {defect}{test.reason}")
    for sentence in results.problems:
        print(f"Problem: {sentence}")


def _merged(names: list[str], progress: Progress) -> list[Result]:
    """One result per test of the suite, also when the run did not come to a lane."""
    if not progress.results:
        reason = "The run ended before it began."
        return [Result(n, "INTERRUPT", "none", reason=reason, promise=promise_of(n)) for n in names]
    order = {name: place for place, name in enumerate(names)}
    lanes = {
        lane_name: sorted(found, key=lambda test: order.get(test.name, len(order)))
        for lane_name, found in progress.results.items()
    }
    here, lab = lanes.get("here"), lanes.get("lab", [])
    return lab if here is None else merge.merged(here, lab)


def _chosen(asked: arguments.Arguments) -> dict[str, str]:
    """The QEMUs of this run, as versions."""
    given = {"QEMU under test": asked.qemu, "QEMU of the target": asked.target_qemu}
    ours = {} if asked.qemu else {"QEMU under test": "reference (the default)"}
    return ours | {name: f"{qemu.version} ({qemu.word})" for name, qemu in given.items() if qemu}


def _results_directory(asked: Path | None) -> Path:
    if asked is not None:
        asked.mkdir(parents=True, exist_ok=True)
        return asked
    base = paths.CHECKOUT / "results"
    root = base / f"{datetime.now():%Y-%m-%dT%H-%M-%S}-{os.getpid()}"
    root.mkdir(parents=True)
    link = base / f".latest-{os.getpid()}"
    link.symlink_to(root.name)
    link.replace(base / "latest")
    return root


def _say_lines_at_once() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: in order, with a report."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
