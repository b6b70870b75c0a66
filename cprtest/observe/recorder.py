# SPDX-License-Identifier: GPL-2.0-or-later
"""A program of ours on the host (assets/host) that records until it is told to end, and then tells."""

import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, stretched
from cprtest.provision.programs import host_program


class Recorder:
    """The program `name`, running. who: how errors call it. popen: what starts it, as subprocess.Popen."""

    def __init__(
        self,
        who: str,
        name: str,
        words: Sequence[str],
        *,
        popen: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen,
        **options: Any,
    ) -> None:
        self._who = who
        self.process = popen(
            [str(host_program(name)), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def wait_line(self, what: str, seconds: float = 5) -> None:
        """Wait until it has printed its first line, by which it says `what`. Raises TimeLimit."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], stretched(seconds))
        if not ready:
            raise TimeLimit(f"waited {stretched(seconds):.0f} s for {self._who} to say: {what}")

    def finish(self) -> bytes:
        """Tell it to end, and return what it printed. Raises CprError when it had failed."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=stretched(10))
        if self.process.returncode:
            raise CprError(f"{self._who} ended with status {self.process.returncode}: {err.decode().strip()}")
        return out

    def kill(self) -> None:
        """End it whatever it does. Harmless when it has ended."""
        with self.process:
            self.process.kill()
