# SPDX-License-Identifier: GPL-2.0-or-later
"""The syscall gate, in front of a small program instead of QEMU."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cprtest import needs
from cprtest.errors import CprError
from cprtest.faults.syscalls import ERRORS
from cprtest.host import processes, seccomp
from cprtest.limits import TimeLimit, wait_until
from cprtest.machine.process import Machine
from cprtest.observe import gate_calls
from cprtest.observe.gate import Gate

pytestmark = pytest.mark.skipif(bool(seccomp.unusable()), reason="no seccomp user notification here")


def test_the_kernels_answers_to_every_call_are_known() -> None:
    assert set(ERRORS) == set(gate_calls.NAMES)


PROGRAM = """
import array, fcntl, os, socket, sys
given = sys.stdin
file = null = open("/dev/null")
def call(request, argument=0):
    try:
        return fcntl.ioctl(file, request, argument)
    except OSError as error:
        return -error.errno
def send(fds=()):
    here, there = socket.socketpair()
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        return here.sendmsg([b"x"], control)
    except OSError as error:
        return -error.errno
def sandbox():
    import ctypes, struct
    load, equal, fail, allow = (0x20, 0, 0, 0), (0x15, 0, 1, 110), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)
    code = b"".join(struct.pack("HBBI", *part) for part in (load, equal, fail, allow))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    return libc.syscall(317, 1, 1, program), libc.getppid()  # SECCOMP_SET_MODE_FILTER, all threads
for line in given:
    print(eval(line), flush=True)
"""
SET_OWNER, RESET_OWNER = 0xAF01, 0xAF02


class Program:
    """A program behind the gate that does what it is told, one line at a time."""

    def __init__(
        self,
        gate: Gate,
        actor: str = "source",
        pass_fds: tuple[int, ...] = (),
        wrapped: tuple[str, ...] = (),
    ) -> None:
        words, fds = gate.prefix(actor)
        self.process = subprocess.Popen(
            [*wrapped, *words, sys.executable, "-ISc", PROGRAM],
            pass_fds=[*fds, *pass_fds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        machine = SimpleNamespace(actor=actor, pid=self.process.pid, spec=SimpleNamespace(devices=()))
        self.machine = cast(Machine, machine)
        gate.started(self.machine)

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed, which its answer tells
            self.process.stdin.write(expression + "\n")
            self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return eval(self.process.stdout.readline() or "None")

    def end(self) -> None:
        with self.process:
            self.process.kill()

    def ask(self, expression: str) -> Any:
        self.tell(expression)
        return self.answer()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate(descriptors=True)
    yield gate
    gate.close()


def names(gate: Gate) -> list[str]:
    return [f"{e.actor} {e.name}" for e in gate.events()]


def test_numbers_are_those_of_the_kernels_headers(tmp_path: Path) -> None:
    headers = "".join(f"#include <linux/{name}.h>\n" for name in ("vhost", "vfio", "if_tun", "kvm"))
    lines = "".join(f'printf("{name} %u\\n", (unsigned){name});' for name in gate_calls.IOCTLS)
    source = tmp_path / "numbers.c"
    source.write_text(f"#include <stdio.h>\n{headers}int main(void) {{ {lines} return 0; }}")
    subprocess.run(["gcc", "-o", tmp_path / "numbers", source], check=True)
    said = subprocess.run([tmp_path / "numbers"], check=True, capture_output=True, text=True).stdout
    assert {n: int(v) for n, v in map(str.split, said.splitlines())} == gate_calls.IOCTLS


def test_calls_go_on_and_are_seen_with_time_and_file(gate: Gate) -> None:
    program = Program(gate)
    before = time.monotonic_ns()
    assert program.ask(f"call({SET_OWNER})") == -errno.ENOTTY
    (event,) = gate.events()
    assert before < event.t < time.monotonic_ns()
    assert (event.actor, event.observer, event.name, event.ok) == ("source", "gate", "VHOST_SET_OWNER", None)
    assert event.data["path"] == "/dev/null" and event.data["nr"] == 0
    assert 0 < event.err < 10**9 and event.data["held"] > 0


def test_other_calls_are_not_seen(gate: Gate) -> None:
    program = Program(gate)
    assert program.ask("call(0x5401)") == -errno.ENOTTY  # TCGETS: of a type that has gated numbers
    assert program.ask("call(0xAE80)") == -errno.ENOTTY  # KVM_RUN
    assert program.ask("send()") == 1
    assert names(gate) == []


def test_failed_calls_are_not_done(gate: Gate) -> None:
    program = Program(gate)
    rule = gate.fail("VHOST_SET_OWNER", errno.EBUSY, nth=2)
    assert [program.ask(f"call({SET_OWNER})") for _ in range(3)] == [
        -errno.ENOTTY,
        -errno.EBUSY,
        -errno.ENOTTY,
    ]
    assert rule.struck == 1
    (struck,) = rule.events
    assert struck.ok is False and struck.data["answer"].startswith("EBUSY")


def test_faked_success_and_every_call(gate: Gate) -> None:
    rule = gate.succeed("VHOST_*_OWNER", nth=None)  # before anything is started
    program = Program(gate)
    assert program.ask(f"call({SET_OWNER})") == 0
    assert program.ask(f"call({RESET_OWNER})") == 0
    rule.cancel()
    assert program.ask(f"call({RESET_OWNER})") == -errno.ENOTTY
    assert rule.struck == 2 and all(e.ok for e in rule.events)


def test_rules_are_about_a_side_at_the_time_of_the_call(gate: Gate) -> None:
    source, target = Program(gate), Program(gate, "target")
    rule = gate.fail("VHOST_SET_OWNER", errno.EBUSY, actor="target", nth=None)
    assert source.ask(f"call({SET_OWNER})") == -errno.ENOTTY
    assert target.ask(f"call({SET_OWNER})") == -errno.EBUSY
    target.machine.actor = "source"  # type: ignore[misc]  # a second transfer
    assert target.ask(f"call({SET_OWNER})") == -errno.ENOTTY
    assert rule.struck == 1
    assert names(gate) == [f"{side} VHOST_SET_OWNER" for side in ("source", "target", "source")]


def test_held_calls_wait_for_their_release(gate: Gate) -> None:
    program = Program(gate)
    hold = gate.hold("VHOST_RESET_OWNER")
    program.tell(f"call({RESET_OWNER})")
    parked = hold.wait()
    assert parked.name == "VHOST_RESET_OWNER" and parked.data["held"] is None
    other = Program(gate, "target")
    assert other.ask(f"call({SET_OWNER})") == -errno.ENOTTY  # the gate goes on answering others
    released = time.monotonic_ns()
    hold.release()
    assert program.answer() == -errno.ENOTTY
    assert parked.t + hold.events[0].data["held"] > released
    assert program.ask(f"call({RESET_OWNER})") == -errno.ENOTTY  # not held again


def test_a_held_call_can_be_failed(gate: Gate) -> None:
    program = Program(gate)
    hold = gate.hold("VHOST_RESET_OWNER")
    program.tell(f"call({RESET_OWNER})")
    hold.wait()
    hold.release(errno.EIO)
    assert program.answer() == -errno.EIO


def test_waiting_for_a_call_that_does_not_come_says_what_came(gate: Gate) -> None:
    program = Program(gate)
    hold = gate.hold("VHOST_RESET_OWNER", actor="source")
    program.ask(f"call({SET_OWNER})")
    with pytest.raises(
        TimeLimit, match=r"source's VHOST_RESET_OWNER.*last calls were source VHOST_SET_OWNER"
    ):
        hold.wait(0.01)


def test_delayed_calls_are_late(gate: Gate) -> None:
    program = Program(gate)
    gate.delay("VHOST_SET_OWNER", 0.05)
    assert program.ask(f"call({SET_OWNER})") == -errno.ENOTTY
    assert gate.events()[0].data["held"] >= 50_000_000


def test_a_program_with_a_filter_of_its_own_as_qemus_sandbox(gate: Gate) -> None:
    program = Program(gate)
    assert program.ask("sandbox()") == (0, -1)
    rule = gate.fail("VHOST_SET_OWNER", errno.EBUSY)
    assert program.ask(f"call({SET_OWNER})") == -errno.EBUSY
    assert rule.struck == 1


@pytest.mark.skipif(bool(needs.unmet(["userns"])), reason="no user namespaces here")
def test_a_program_in_a_user_namespace(gate: Gate) -> None:
    program = Program(gate, wrapped=("unshare", "--user", "--map-root-user", "--net", "--"))
    assert program.ask(f"call({0x4008AF60}, (7).to_bytes(8, 'little'))") == -errno.ENOTTY
    assert program.ask("send([0])") == 1
    call, sent = gate.events()
    assert (call.data["path"], call.data["cid"], sent.data["fds"]) == ("/dev/null", 7, [0])


def test_sends_of_descriptors(gate: Gate) -> None:
    program = Program(gate)
    assert program.ask("send()") == 1
    assert program.ask("send([0, 1])") == 1
    (event,) = gate.events()
    assert event.name == "SCM_RIGHTS" and event.data["fds"] == [0, 1]
    gate.fail("SCM_RIGHTS", errno.EPIPE)
    assert program.ask("send([0])") == -errno.EPIPE
    with pytest.raises(ValueError, match="descriptors=True"):
        Gate().hold("SCM_RIGHTS")


def test_arguments_are_read(gate: Gate) -> None:
    program = Program(gate)
    program.ask(f"call({0x4008AF30}, (1).to_bytes(4, 'little') + (7).to_bytes(4, 'little'))")
    program.ask(f"call({0x400454CA}, b'tap7'.ljust(16, b'\\0') + (0x4102).to_bytes(2, 'little') + bytes(22))")
    backend, tap = gate.events()
    assert (backend.name, backend.data["index"], backend.data["backend"]) == ("VHOST_NET_SET_BACKEND", 1, 7)
    assert (tap.name, tap.data["ifname"], tap.data["flags"]) == ("TUNSETIFF", "tap7", "multi_queue vnet_hdr")


def test_a_file_that_travelled_keeps_its_number(gate: Gate) -> None:
    with open("/dev/null") as shared, open("/dev/null") as own:
        fds = (shared.fileno(), own.fileno())
        source, target = Program(gate, pass_fds=fds), Program(gate, "target", pass_fds=fds)
        for program, fd in ((source, fds[0]), (source, "null"), (target, fds[0]), (target, fds[1])):
            program.ask(f"call.__globals__.update(file={fd}) or call({SET_OWNER})")
    assert [e.data["nr"] for e in gate.events()] == [0, 1, 0, 2]
    assert not any("identity" in e.data for e in gate.events())


def test_a_call_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no call is named VHOST_OWN"):
        Gate().hold("VHOST_OWN")


def test_when_the_supervisor_dies_nothing_falls_back(gate: Gate) -> None:
    program = Program(gate)
    program.ask(f"call({SET_OWNER})")
    gate.intact()
    assert gate._supervisor is not None
    os.kill(gate._supervisor.process.pid, signal.SIGKILL)
    program.tell(f"call({SET_OWNER})")
    assert program.answer() is None  # killed, and never told ENOSYS
    assert program.process.wait() == -signal.SIGKILL
    wait_until("the loss to be known", lambda: gate._supervisor and gate._supervisor.lost, 5)
    for verdict in (gate.intact, gate.end, gate.events):
        with pytest.raises(CprError, match=r"supervisor ended.*SIGKILL"):
            verdict()


def test_what_is_started_while_the_supervisor_is_dead_dies_too(gate: Gate) -> None:
    words = gate.prefix("source")
    assert gate._supervisor is not None
    os.kill(gate._supervisor.process.pid, signal.SIGSTOP)
    late = Program(gate)
    late.tell(f"call({SET_OWNER})")
    os.kill(gate._supervisor.process.pid, signal.SIGKILL)
    assert late.answer() is None
    assert late.process.wait() != 0
    del words


def test_closing_ends_what_is_gated(gate: Gate) -> None:
    program = Program(gate)
    gate.hold("VHOST_SET_OWNER")
    program.ask("1")
    program.tell(f"call({SET_OWNER})")
    gate.close()
    assert program.answer() is None
    assert program.process.wait() == -signal.SIGKILL
    gate.close()


def test_a_program_that_ends_leaves_nothing_with_us(gate: Gate) -> None:
    Program(gate).end()
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        program = Program(gate)
        program.ask(f"call({SET_OWNER})")
        program.end()
    wait_until("our copies to be closed", lambda: len([*Path("/proc/self/fd").iterdir()]) <= before, 5)


KILLED = """
import subprocess, sys, time
from cprtest.observe.gate import Gate
gate = Gate()
words, fds = gate.prefix("source")
program = subprocess.Popen([*words, "/bin/sleep", "1000"], pass_fds=fds)
gate.prefix("target")
print(gate._supervisor.process.pid, program.pid, flush=True)
time.sleep(1000)
"""


def test_a_killed_test_leaves_neither_supervisor_nor_program() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        pids = [int(word) for word in test.stdout.readline().split()]
        assert len(pids) == 2 and all(processes.start_time(pid) for pid in pids)
        test.kill()
    wait_until("both to end", lambda: not any(processes.start_time(pid) for pid in pids), 5)
