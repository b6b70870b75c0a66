# SPDX-License-Identifier: GPL-2.0-or-later
"""Labs that are really booted: status, streams, signals, two side by side, and the end by kill -9."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cprtest import paths
from cprtest.errors import NotInstalled
from cprtest.limits import wait_until
from cprtest.provision import installed

LAB = str(paths.CHECKOUT / "scripts" / "lab")
Start = Callable[..., "subprocess.Popen[str]"]


def _missing() -> str | None:
    try:
        installed.kernel()
        installed.qemu()
    except NotInstalled as error:
        return str(error)
    return (
        None if (paths.VENV / "bin" / "virtme-run").exists() else "virtme-ng is missing: run `scripts/setup`"
    )


pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(_missing()), reason=_missing() or ""),
    pytest.mark.skipif(paths.lane() == "lab", reason="a lab in a lab is not what this is about"),
]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts `scripts/lab run -- COMMAND...` without a terminal; ends it if the test does not."""
    monkeypatch.delenv("CPRTEST_RUN", raising=False)
    begun: list[subprocess.Popen[str]] = []

    def begin(*command: str, **more: object) -> "subprocess.Popen[str]":
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        argv = [LAB, "run", "--memory", "2G", "--", *command]
        begun.append(subprocess.Popen(argv, text=True, start_new_session=True, **options))  # type: ignore[call-overload]
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()
            process.wait()


def descendants(pid: int) -> list[int]:
    """Processes below `pid`; none if it has ended."""
    found: list[int] = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in children:
        found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    """Whether `pid` is a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def program(pid: int) -> str:
    """Name of what `pid` runs; "" if it has ended, as the helpers of a lab's start do at any time."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def test_two_side_by_side_pass_on_status_streams_and_signals(start: Start) -> None:
    result = paths.CHECKOUT / "results" / f"lab-test-{os.getpid()}"
    first = start(
        *("sh", "-c", 'echo "out $1"; echo "err $2" >&2; echo "$CPRTEST_LANE" > "$3"; exit 201', "sh"),
        *("it's", 'a "b"  $c', str(result)),
    )
    second = start(
        *("sh", "-c", "trap 'echo stopped; exit 42' INT; echo ready; while :; do sleep 0.1; done"),
    )
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    second.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=300)
    assert (out, _from_inside(err), first.returncode) == ("out it's\n", 'err a "b"  $c\n', 201)
    assert result.read_text() == "lab\n"
    result.unlink()
    rest, err = second.communicate(timeout=300)
    assert (rest, _from_inside(err), second.returncode) == ("stopped\n", "", 42)


def _from_inside(err: str) -> str:
    """What the command said, without what the lab may say of its own start: that it waits for another one's
    images, as one of two does in a new checkout, or that it hung and is started again (docs/lab.md).
    """
    said = err.rpartition("Starting it once more.\n")[2]
    return "".join(line for line in said.splitlines(True) if not line.startswith("waiting for another "))


def test_kill_9_leaves_no_process(start: Start) -> None:
    owner = start("sleep", "1000")

    def qemu_runs() -> list[int]:
        """QEMU has asked the kernel to end with its parent by the time it opens its character devices."""
        below = descendants(owner.pid)
        return below if any(opened_console(pid) for pid in below) else []

    def opened_console(pid: int) -> bool:
        if program(pid) != "qemu-system-x86_64":  # the helpers of a lab's start may have ended by now
            return False
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        logs = [word.partition("path=")[2] for word in words if word.startswith("file,id=lab-console,")]
        return any(Path(log).exists() for log in logs)

    below = wait_until("QEMU of the lab to run", qemu_runs, 10)
    owner.kill()
    owner.wait()
    wait_until(
        "the lab's processes to end after kill -9 of scripts/lab",
        lambda: not any(alive(pid) for pid in below),
        5,
        instead=lambda: f"still there: {[pid for pid in below if alive(pid)]}",
    )
