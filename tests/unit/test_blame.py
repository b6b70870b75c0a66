# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence against a phase is found in what both QEMUs left, and the first phase of a hand-over is blamed."""

from pathlib import Path
from typing import Any, cast

import pytest

from cprtest import blame
from cprtest.machine.process import Machine
from cprtest.observe.trace import read_trace
from cprtest.outcome import Outcome
from cprtest.timeline.clock import WallClock
from cprtest.timeline.phases import Span
from cprtest.timeline.timeline import Timeline

SOURCE = """\
cpr_save_fd ram0, id 0, fd 12
cpr_save_fd net0/vhost, id 0, fd 14
qemu_loadvm_state_section_startfull 3(timer) 0 2
qemu_loadvm_state_section_startfull 4(cpu) 0 12
runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)
vm_state_notify running 0 reason 7 (finish-migrate)
vhost_dev_stop 0x55bc1e5be7a0:virtio-net vrings:0
vm_stop_flush_all ret 0
migration_cpr_stop was running ret 0
vhost_cpr_release dev: 0x55bc1e5be7a0 fd: 14 ret: 0
migration_cpr_setup ret 0
cpr_state_save cpr-transfer mode
---
migration_set_outgoing_channel ioc
savevm_state_header
migrate_set_state new state completed
runstate_set current_run_state 7 (finish-migrate) new_state 5 (postmigrate)
"""
TARGET = """\
cpr_state_load cpr-transfer mode
cpr_find_fd net0/vhost, id 0 returns 18
cpr_find_fd ram0, id 0 returns 17
migrate_set_state new state setup
---
loadvm_state_setup
qemu_loadvm_state_section_startfull 3(timer) 0 2
qemu_loadvm_state_section_startfull 4(cpu) 0 12
process_incoming_migration_co_end ret=0
runstate_set current_run_state 1 (inmigrate) new_state 9 (running)
vhost_dev_start 0x5600:virtio-net
"""


class Ended:
    """A QEMU that has ended and left a trace and a log."""

    def __init__(self, actor: str, directory: Path, trace: str, words: str, start: int) -> None:
        self.trace, self.log = directory / f"{actor}.trace", directory / f"{actor}.log"
        self.clock = WallClock()
        lines = [line for line in trace.splitlines() if line]
        # What comes after the dashes happened when the other side had got there, too.
        times = [1000 * (n + 50 * lines[:n].count("---")) for n in range(len(lines))]
        self.trace.write_text(
            "".join(
                f"2036-01-31T12:00:00.{start + t:06}Z {line}\n"
                for t, line in zip(times, lines, strict=True)
                if line != "---"
            )
        )
        self.log.write_text("the command line\n" + words)

    stopping = True

    def exit(self) -> str:
        return "exit status 0"


@pytest.fixture
def outcome(tmp_path: Path) -> Any:
    def make(source: str = SOURCE, target: str = TARGET, words: str = "", **changed: Any) -> Outcome:
        machines = {
            "source": cast(Machine, Ended("source", tmp_path, source, "", 0)),
            "target": cast(Machine, Ended("target", tmp_path, target, words, 20_000)),
        }
        events = [e for m, q in machines.items() for e in read_trace(q.trace, m, q.clock)]
        about: dict[str, Any] = {
            "directory": tmp_path,
            "states": {"source": "postmigrate", "target": "running"},
            "was": "running",
            "since": min((e.t for e in events), default=0),
            "survivor": "target",
            "reported": "completed",
            "error": "",
            "messages": {"source": "", "target": ""},
        }
        about |= {**machines, "timeline": Timeline.build(events, {}, None), **changed}
        return Outcome(**about)

    return make


def without(text: str, *words: str) -> str:
    lines = [line for line in text.splitlines() if not any(word in line for word in words)]
    return "\n".join(lines) + "\n"


def test_nobody_is_blamed_before_a_transfer() -> None:
    assert blame.blame([]) is None


def test_without_evidence_it_is_what_the_checked_thing_depends_on(outcome: Any) -> None:
    assert blame.of_transfer(outcome()) is None
    assert str(blame.blame([outcome()], "acquire")).startswith("[phase acquire] (")


@pytest.mark.parametrize(
    ("phase", "source", "target"),
    [
        ("stop", without(SOURCE, "vm_state_notify"), TARGET),
        ("stop", SOURCE.replace("was running", "was finish-migrate"), TARGET),
        ("setup", without(SOURCE, "migration_cpr_setup", "vhost_"), TARGET),
        ("setup", without(SOURCE, "vhost_cpr_release"), TARGET),
        (
            "release",
            without(SOURCE, "vhost_cpr_release") + "vhost_cpr_acquire dev: 0x55bc1e5be7a0 fd: 14 ret: 0\n",
            TARGET,
        ),
        ("release", SOURCE.replace("fd: 14 ret: 0", "fd: 14 ret: -1"), TARGET),
        ("handover", SOURCE, TARGET.replace("ram0, id 0 returns 17", "ram0, id 0 returns -1")),
        ("handover", without(SOURCE, "outgoing_channel", "completed"), TARGET),
        ("acquire", SOURCE, "vfio_pci_reset (0000:01:00.0)\n" + TARGET),
        ("stream", SOURCE, without(TARGET, "(cpu)")),
        ("complete", SOURCE + "vm_state_notify running 1 reason 9 (running)\n", TARGET),
        ("resume", SOURCE, without(TARGET, "vhost_dev_start")),
    ],
)
def test_traces_tell_the_phase(outcome: Any, phase: str, source: str, target: str) -> None:
    found = blame.of_transfer(outcome(source, target))
    assert found is not None
    assert found.phase == phase, found


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("handover", "vhost_set_owner failed: Device or resource busy"),
        ("acquire", "could not configure /dev/net/tun (tap0): Device or resource busy"),
    ],
)
def test_a_target_that_ended_early_is_judged_by_what_the_source_had_done(
    outcome: Any, phase: str, words: str
) -> None:
    gone = {"states": {"source": "running", "target": None}, "messages": {"source": "", "target": words}}
    target = TARGET.partition("migrate_set_state")[0]
    source = without(SOURCE, "outgoing_channel", "savevm", "completed", "postmigrate")
    found = blame.of_transfer(outcome(source, target, words, survivor="source", reported="failed", **gone))
    assert found is not None
    assert found.phase == phase, found


def test_after_an_injected_failure_it_is_the_roll_back(outcome: Any) -> None:
    failed = SOURCE.partition("---")[0] + "migrate_set_state new state failed\n"
    about = {"survivor": "source", "reported": "failed", "states": {"source": "running", "target": None}}
    rolled_back = outcome(failed, "", meant_to_fail=True, **about)
    found = blame.blame([rolled_back])
    assert found is not None
    assert found.phase == "rollback"


def test_a_source_that_does_not_begin_to_roll_back_is_stuck_where_it_is(outcome: Any) -> None:
    waits = SOURCE.partition("---")[0]
    about = {"survivor": "none", "reported": "none", "states": {"source": "unknown", "target": "unknown"}}
    found = blame.blame([outcome(waits, "", meant_to_fail=True, **about)])
    assert found is not None
    assert found.phase == "handover"


def test_a_phase_that_took_nearly_all_of_a_long_pause_is_blamed_last(outcome: Any) -> None:
    made = outcome()
    stop = made.timeline.phases["stop"]
    made.timeline.phases["stop"] = Span(stop.start - 2_000_000_000, stop.end)
    assert str(blame.blame([made])).startswith("[phase stop] (it took 2.0 of the 2.")
    broken = outcome(target=without(TARGET, "(cpu)"))
    broken.timeline.phases["stop"] = made.timeline.phases["stop"]
    assert str(blame.blame([broken])).startswith("[phase stream]")
