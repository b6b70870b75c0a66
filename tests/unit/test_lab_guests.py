# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests in an emulated lab live on, whatever makes its vCPU leave its loop (docs/findings/D-028.md)."""

import contextlib
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cprtest import paths
from cprtest.errors import NotInstalled
from cprtest.machine.qmp import CommandFailed, Qmp
from cprtest.provision import installed

GUESTS = 3
ENOUGH = 240
"""Seconds for them, on a slow machine."""


def _missing() -> str | None:
    try:
        installed.kernel()
        installed.guest_image()
        installed.qemu()
        installed.under_test()
    except NotInstalled as error:
        return str(error)
    return None


pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(_missing()), reason=_missing() or ""),
    pytest.mark.skipif(paths.lane() == "lab", reason="a lab in a lab is not what this is about"),
]


def test_an_interrupt_is_delivered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab is stopped and continued at random instants while guests run in it, and none of them hangs."""
    monkeypatch.delenv("CPRTEST_RUN", raising=False)
    monitor = tmp_path / "qmp"
    guests = f"echo begins; exec {paths.VENV}/bin/python -m cprtest.measure --count {GUESTS}"
    lab = (paths.CHECKOUT / "scripts" / "lab", "run", "--monitor", monitor, "--", "sh", "-c", guests)
    with subprocess.Popen(
        lab, cwd=paths.CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout and process.stdout.readline() == "begins\n"
            times = _interrupt(process, monitor)
            status = process.poll()
        finally:
            process.terminate()
    assert times > 500
    assert status == 0, f"a guest hangs in a lab that was stopped and continued {times} times"


def _interrupt(process: "subprocess.Popen[str]", monitor: Path) -> int:
    """Stop and continue the lab, at random instants, until its command ends or ENOUGH. Returns how often."""
    times, until = 0, time.monotonic() + ENOUGH
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(monitor))
    qmp = Qmp("lab", monitor.with_suffix(".log"))
    qmp.connect(connected)
    with contextlib.closing(qmp), contextlib.suppress(CommandFailed):  # the lab is gone before scripts/lab is
        qmp.ready()
        while process.poll() is None and time.monotonic() < until:
            qmp.command("stop")
            qmp.command("cont")
            times += 1
            time.sleep(random.uniform(0, 0.004))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(1, until - time.monotonic()))
    return times
