# SPDX-License-Identifier: GPL-2.0-or-later
"""The target of a cpr-exec: the QEMU that the source's own process becomes by execve."""

import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from cprtest.limits import stretched
from cprtest.machine.process import Exit, Machine
from cprtest.machine.spec import GuestSpec


class Execed(Machine):
    """A QEMU that is not started: `source` becomes it. Until then it is a command line and two sockets.

    It opens its monitor and its shell anew, on sockets in `scratch` that already listen. Standard output and
    error stay the source's, and so does the log.
    """

    def __init__(
        self,
        qemu: Path,
        spec: GuestSpec,
        directory: Path,
        *,
        source: Machine,
        scratch: Path,
        extra: Sequence[str],
    ) -> None:
        self._set_up(qemu, spec, directory, "target", source.history)
        self.source = source
        self.log = source.log
        self.process = source.process
        self.argv = self._command_line(
            f"socket,path={scratch / 'qmp'}", f"socket,path={scratch / 'shell'}", extra
        )
        self.shell_socket = _listening(scratch / "shell")
        self.qmp.connect(_listening(scratch / "qmp"))

    def take_over(self) -> None:
        """The new QEMU has greeted: from now on the process is this machine, and the source is no more."""
        self.ready()
        # QEMU connects its character devices in the order of the command line, before its monitor speaks.
        with self.shell_socket as waiting:
            waiting.settimeout(stretched(5))
            self.shell_socket, _ = waiting.accept()
        self.source.replaced = True
        self.source.kill()  # closes our ends

    def kill(self, number: int = signal.SIGKILL) -> Exit:
        """As of any machine; as long as the process is the source, it is left to it."""
        if self.source.replaced:
            return super().kill(number)
        self.qmp.close()
        self.shell_socket.close()
        return Exit(None, None)


def _listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(1)
    return made
