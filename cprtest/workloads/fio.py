# SPDX-License-Identifier: GPL-2.0-or-later
"""fio in the guest: it writes blocks with their own checksums across a transfer, and verifies them after it.

Needs a guest with the tools disk (`boot(tools=True)`), and a disk or an assigned drive beside it.
"""

import json
from collections.abc import Callable
from typing import Any

from cprtest.errors import Damage
from cprtest.guest.guest import Guest
from cprtest.limits import TimeLimit, wait_until

_JOB = "fio --name=job --filename=/dev/{} --thread --ioengine=libaio --direct=1 --bs=4k --verify=crc32c"
# Bytes a second: slow enough that the end of the disk is not reached before `verify`.
_RATE = 1 << 20


class FioWriter:
    """Writes a disk from its beginning, a few blocks in flight at all times, until `verify` ends it.

    It writes in sequence and once, so that fio needs no record of what has been written but its length. node:
    the guest's name of the disk.
    """

    def __init__(self, guest: Guest, node: str = "vda") -> None:
        self._guest = guest
        self._node = node
        self._command = _JOB.format(node)
        self._before = self._taken()
        self._written = 0
        self.trouble: Callable[[], str | None] = lambda: None
        """As in Workload."""
        write = f"{self._command} --rw=write --iodepth=4 --do_verify=0 --verify_state_save=0 --rate={_RATE}"
        guest.run(
            f"{write} --output-format=json --output=/run/writer.json >/run/writer.log 2>&1 </dev/null & "
            "echo $! >/run/writer.pid"
        )

    def wait_progress(self, size: int = 256 << 10) -> None:
        """Wait until the disk has taken `size` bytes more. Raises AssertionError, with fio's own words."""
        target = self._taken() - self._before + size

        def reached() -> bool:
            self._written = self._taken() - self._before
            return self._written >= target

        try:
            wait_until(f"fio to write {target >> 10} KiB", reached, 20, self._words, 0.1, vain=self.trouble)
        except TimeLimit as limit:
            raise Damage(f"fio: /dev/{self._node} stands still: {limit}", "resume") from limit

    def verify(self) -> None:
        """End the writer and verify all that it wrote. Raises AssertionError in fio's words."""
        # fio ends on SIGINT when all blocks in flight are written.
        self._guest.run(
            "pid=$(cat /run/writer.pid); kill -INT $pid; "
            "while kill -0 $pid 2>/dev/null; do usleep 20000; done",
            seconds=20,
        )
        job = self._job("writer")
        size = job["write"]["io_bytes"]
        if job["error"] or size < self._written:
            raise AssertionError(
                f"fio wrote {size} bytes ({self._written} were seen), error {job['error']}: {self._words()}"
            )
        read = f"{self._command} --rw=read --iodepth=16 --size={size}"
        out = "--output-format=json --output=/run/verify.json"
        if not self._guest.succeeds(f"{read} {out} >/run/verify.log 2>&1", seconds=30):
            raise AssertionError(f"fio: what was written across the transfer is damaged: {self._words()}")
        seen = self._job("verify")["read"]["io_bytes"]
        if seen != size:
            raise AssertionError(f"fio verified {seen} of {size} bytes: {self._words()}")

    def _taken(self) -> int:
        """Bytes that the disk has completed: the 7th figure of the kernel's Documentation/block/stat.rst."""
        return int(self._guest.run(f"cat /sys/block/{self._node}/stat").split()[6]) * 512

    def _job(self, name: str) -> dict[str, Any]:
        text = self._guest.run(f"cat /run/{name}.json")
        found: dict[str, Any] = json.loads(text[text.index("{") :])["jobs"][0]
        return found

    def _words(self) -> str:
        return (
            self._guest.run("tail -qn 4 /run/writer.log /run/verify.log 2>/dev/null || true")
            or "fio said nothing"
        )
