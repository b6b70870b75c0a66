# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel stays quiet: no lockup, RCU stall, hung task, oops or I/O error. Its log is kept."""

import re
from collections.abc import Iterable

from cprtest.errors import CprError
from cprtest.guest.guest import Guest
from cprtest.workloads.history import Problem
from cprtest.workloads.workload import fail_with

# What the kernel says (kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/hung_task.c, block/blk-core.c ...).
# A line is of the first kind that it matches. Not looked for, as a pause or a slow host makes a sound kernel
# say it: "hogged CPU for >10000us", "DL replenish lagged too much", "hrtimer: interrupt took".
_TROUBLE = {
    "soft lockup": re.compile(r"soft lockup|hard LOCKUP"),
    "RCU stall": re.compile(r"rcu: .*(detected stall|self-detected|kthread starved)|rcu_\w+ kthread"),
    "hung task": re.compile(r"blocked for more than \d+ seconds"),
    "workqueue lockup": re.compile(r"workqueue lockup"),
    "scheduler": re.compile(r"RT throttling activated|scheduling while atomic"),
    "softirq": re.compile(r"softirq work is pending|entered softirq"),
    "crash": re.compile(r"BUG: |Oops|general protection|Kernel panic|Call Trace"),
    "warning": re.compile(r"WARNING: "),
    "I/O error": re.compile(r"I/O error|timeout, (aborting|completion polled)|NETDEV WATCHDOG|Tx Unit Hang"),
    "interrupt lost": re.compile(r"nobody cared|lost interrupt|spurious"),
    # Not "Long readout interval, skipping watchdog check": a pause, or a busy host, makes it say so.
    "clocksource": re.compile(r"clocksource: .*(unstable|skewed)", re.IGNORECASE),
    "clock": re.compile(r"time went backwards", re.IGNORECASE),
}


def trouble(lines: Iterable[str]) -> list[Problem]:
    """One problem for each kind of trouble that the kernel tells of in `lines`, with the first that does."""
    told: dict[str, list[str]] = {}
    for line in lines:
        kind = next((kind for kind, pattern in _TROUBLE.items() if pattern.search(line)), None)
        if kind:
            told.setdefault(kind, []).append(line.strip())
    return [
        Problem(f"{kind}: {said[0]!r}" + (f", {len(said)} lines" if said[1:] else ""))
        for kind, said in told.items()
    ]


class KernelLog:
    """What the kernel says from now on. `check` reads the console's log, which a dead guest leaves."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._before = len(guest.run("dmesg").splitlines())
        self._directory = guest.directory
        logs = self._directory.rglob("console.log")
        self._seen = {log: len(log.read_text(errors="replace").splitlines()) for log in logs}

    def problems(self) -> list[Problem]:
        """One for each kind of trouble since this was made."""
        return trouble(self._collected())

    def said(self) -> str | None:
        """The first trouble that the serial consoles show, or None. Asks nothing of the guest."""
        return next((problem.text for problem in trouble(self._console_lines())), None)

    def check(self) -> None:
        """Raises AssertionError in the kernel's words."""
        fail_with("kernel", self.problems())

    def _collected(self) -> list[str]:
        """What is new on the consoles and in dmesg, which is kept in dmesg.log; a dead guest has no dmesg."""
        lines = self._console_lines()
        try:
            text = self._guest.run("dmesg", seconds=3)
        except CprError:
            return lines
        (self._directory / "dmesg.log").write_text(text + "\n")
        return list(dict.fromkeys([*lines, *text.splitlines()[self._before :]]))

    def _console_lines(self) -> list[str]:
        """What has come on the serial consoles since this was made."""
        logs = {
            log: log.read_text(errors="replace").splitlines() for log in self._directory.rglob("console.log")
        }
        return [line for log, lines in sorted(logs.items()) for line in lines[self._seen.get(log, 0) :]]
