# SPDX-License-Identifier: GPL-2.0-or-later
"""The sampler of the heartbeat on a memory file that the test itself counts in."""

import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cprtest.host.processes import start_time
from cprtest.limits import wait_until
from cprtest.provision.programs import host_program

PAGE = 4096
OFFSET = 3 * PAGE
PERIODIC = OFFSET + 64


class Memory:
    """A guest's memory file, and the sampler that looks at it every 50 us."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("guest")
        os.ftruncate(self.descriptor, 8 * PAGE)
        words = (str(n) for n in (self.descriptor, OFFSET, 1, 50_000))
        self.sampler = subprocess.Popen(
            [str(host_program("sample-heartbeat")), *words],
            stdout=subprocess.PIPE,
            pass_fds=[self.descriptor],
        )

    def beat(self, count: int) -> tuple[int, int]:
        """Write the counter, and give the sampler time to look. Returns when it was written: from, to; ns."""
        begin = time.monotonic_ns()
        os.pwrite(self.descriptor, struct.pack("<QQ", count, begin), PERIODIC)
        end = time.monotonic_ns()
        wait_until("the sampler to look", lambda: time.monotonic_ns() > end + 20_000_000, 5)
        return begin, end

    def seen(self) -> dict[str, Any]:
        """What the sampler prints about the only vCPU."""
        self.sampler.send_signal(signal.SIGTERM)
        out, _ = self.sampler.communicate(timeout=20)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])["vcpus"][0]
        return found


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    made.sampler.kill()
    made.sampler.wait()
    os.close(made.descriptor)


def _wait_until_it_looks(memory: Memory) -> None:
    status = Path(f"/proc/{memory.sampler.pid}/stat")
    wait_until("the sampler to sleep between looks", lambda: status.read_text().split()[2] == "S", 5)


def test_a_silence_lies_between_the_beats_that_were_written(memory: Memory) -> None:
    _wait_until_it_looks(memory)
    times = [memory.beat(count) for count in (1, 2, 3)]
    seen = memory.seen()
    assert (seen["beats"], seen["back"]) == (3, 0)
    for silence in seen["silences"]:
        for edge in (silence["from"], silence["to"]):
            begin, end = times[edge["count"] - 1]
            assert edge["after"] <= end and begin <= edge["before"]


def test_a_counter_that_goes_back_is_noticed(memory: Memory) -> None:
    _wait_until_it_looks(memory)
    for count in (5, 3):
        memory.beat(count)
    assert memory.seen()["back"] == 1


def test_it_does_not_outlive_the_one_who_started_it() -> None:
    start = (
        "import os, subprocess, sys; fd = os.memfd_create('guest'); os.ftruncate(fd, 4096);"
        "argv = [sys.argv[1], str(fd), '0', '1', '50000'];"
        "print(subprocess.Popen(argv, pass_fds=[fd], stdout=subprocess.PIPE).pid)"
    )
    argv = ["python3", "-c", start, str(host_program("sample-heartbeat"))]
    pid = int(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    # It may stay a zombie: another test may have made this process one that orphans are given to.
    wait_until("the sampler to end", lambda: start_time(pid) is None, 10)
