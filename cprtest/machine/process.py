# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process, from its start to its end.

Starting it and talking to it are separate steps: the target of a cpr-transfer answers nothing
before the source has sent it the cpr state. Every channel is a socket pair made beforehand, so
there is no path to wait for and nobody else can connect.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cprtest.errors import CprError
from cprtest.limits import stretched, wait_until
from cprtest.machine.qmp import Qmp
from cprtest.machine.spec import GuestSpec
from cprtest.provision import installed
from cprtest.timeline.clock import WallClock

# What a timeline is made of, before there are observers outside QEMU. Names that a QEMU does not
# know only cost it a warning (its log says so).
TRACE_EVENTS = (
    "cpr_exec",
    "cpr_state_save",
    "cpr_state_load",
    "cpr_transfer_input",
    "cpr_transfer_output",
    "migrate_set_state",
    "migrate_error",
    "migration_cancel",
    "migration_cleanup",
    "migration_set_outgoing_channel",
    "migration_set_incoming_channel",
    "migration_tls_outgoing_*",
    "migration_thread_setup_complete",
    "migration_completion_vm_stop",
    "savevm_state_header",
    "loadvm_state_setup",
    "process_incoming_migration_co_end",
    "runstate_set",
    "vm_state_notify",
    "vm_stop_flush_all",
    "vhost_dev_start",
    "vhost_dev_stop",
    "vhost_dev_cleanup",
    "migration_cpr_*",
    "vhost_cpr_*",
    "tap_cpr_*",
    "vfio_cpr_*",
    "vfio_migration_set_state",
    "vfio_migration_set_device_state",
    "vfio_pci_reset",
    "vfio_pci_hot_reset*",
    "vfio_intx_enable",
    "vfio_msix_enable",
    "vfio_msix_vector_do_use",
)

# Too many for a timeline, but evidence when it is asked what went wrong (cprtest.blame).
DETAILS = (
    "cpr_save_fd",
    "cpr_find_fd",
    "cpr_delete_fd",
    "qemu_loadvm_state_section_startfull",
)

# Run states that a guest does not come back from by itself (qapi/run-state.json).
DEAD_ENDS = ("internal-error", "guest-panicked", "shutdown", "io-error")


class Died(CprError):
    """A QEMU ended that should have lived."""


@dataclass(frozen=True)
class Exit:
    """How a QEMU ended: an exit status, the signal that killed it, or neither: another took its process."""

    status: int | None
    signal: str | None

    def __str__(self) -> str:
        if self.status is None and self.signal is None:
            return "replaced by execve"
        return f"killed by {self.signal}" if self.signal else f"exit status {self.status}"


class Machine:
    """A QEMU process. `actor` is "source" or "target": which one it is in the current transfer.

    `directory` receives ACTOR.log, ACTOR.trace, qmp.log and console.log. `popen` starts it, in the
    test's network namespace if it has one. `prefix`: words before the command line, a program that ends by
    becoming QEMU. `environment` is added to ours. `history`: the file that every QEMU of a test appends to
    what the guest writes to its port `history` (by default history.log in `directory`).
    """

    def __init__(
        self,
        qemu: Path,
        spec: GuestSpec,
        directory: Path,
        *,
        actor: str,
        extra: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        popen: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen,
        environment: Mapping[str, str] | None = None,
        history: Path | None = None,
    ) -> None:
        self._set_up(qemu, spec, directory, actor, history)
        qmp_ours, qmp_theirs = socket.socketpair()
        self.shell_socket, shell_theirs = socket.socketpair()
        theirs = (qmp_theirs, shell_theirs)
        ends = [f"socket,fd={end.fileno()}" for end in theirs]
        self.argv = [*prefix, *self._command_line(ends[0], ends[1], extra)]
        with self.log.open("ab") as log, theirs[0], theirs[1]:
            log.write((" ".join(self.argv) + "\n").encode())
            log.flush()
            self.process = popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[*(s.fileno() for s in theirs), *pass_fds],
                env={**os.environ, **(environment or {})},
            )
        self.qmp.connect(qmp_ours)

    def _set_up(self, qemu: Path, spec: GuestSpec, directory: Path, actor: str, history: Path | None) -> None:
        """Everything but the process and the channels to it."""
        directory.mkdir(parents=True, exist_ok=True)
        self.qemu = qemu
        self.spec = spec
        self.log = directory / f"{actor}.log"
        self.trace = directory / f"{actor}.trace"
        self.history = history or directory / "history.log"
        self._console = directory / "console.log"
        self.clock = WallClock()
        self.stopping = False
        self.replaced = False  # by another QEMU in the same process
        self.started = self.answered = time.monotonic_ns()
        self.qmp = Qmp(actor, directory / "qmp.log")

    def _command_line(self, qmp: str, shell: str, extra: Sequence[str]) -> list[str]:
        """QEMU and its arguments. qmp, shell: character devices (-chardev, without id)."""
        return [
            str(self.qemu),
            *installed.firmware(self.qemu),
            *("-name", f"cpr-{self.actor},debug-threads=on"),
            *("-chardev", f"{qmp},id=qmp", "-mon", "chardev=qmp,mode=control"),
            *("-chardev", f"file,id=console,path={self._console},append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"{shell},id=shell"),
            *("-device", f"virtio-serial-pci,id=shell,bus={self.spec.bus},addr=1e.0"),
            *("-device", "virtserialport,bus=shell.0,chardev=shell,name=shell"),
            # A file, not a socket: what the guest has written is there, whatever becomes of this process.
            *("-chardev", f"file,id=history,path={self.history},append=on"),
            *("-device", "virtserialport,bus=shell.0,chardev=history,name=history"),
            *("-msg", "timestamp=on", "-D", str(self.trace)),
            *(word for name in (*TRACE_EVENTS, *DETAILS) for word in ("-trace", name)),
            *self.spec.command_line(),
            *extra,
        ]

    @property
    def actor(self) -> str:
        """source or target."""
        return self.qmp.actor

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self.process.pid

    def exit(self) -> Exit | None:
        """How it ended, or None while it lives."""
        if self.replaced:
            return Exit(None, None)
        code = self.process.poll()
        if code is None:
            return None
        return Exit(None, signal.Signals(-code).name) if code < 0 else Exit(code, None)

    def gone(self) -> str | None:
        """None while QEMU lives; else how it ended and its last words."""
        ended = self.exit()
        return f"QEMU ended, {ended}; its last words: {self.last_words()}" if ended else None

    def last_words(self) -> str:
        """The last lines of QEMU's log that are no command line: it has one of each QEMU of this actor."""
        lines = self.log.read_text(errors="replace").splitlines()[1:]
        said = [line for line in lines if f"{self.qemu} -" not in line]
        return " | ".join(said[-4:]) or "none"

    def ready(self, seconds: float = 10) -> None:
        """Wait until QEMU's monitor answers. Raises CommandFailed with its last words if it ended."""
        self.qmp.ready(seconds, self.gone)
        self.answered = time.monotonic_ns()

    def run_state(self) -> str | None:
        """QEMU's run state, "" while its monitor is not up yet, None when the process is gone."""
        if self.exit() is not None:
            return None
        if not self.qmp.is_ready:
            return ""
        try:
            return str(self.qmp.command("query-status")["status"])
        except CprError:
            # It may be on its way out: the process tells, not the broken connection.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(stretched(1))
            if self.exit() is not None:
                return None
            raise

    def plug(self, backend: Sequence[str], frontend: dict[str, Any]) -> None:
        """Hot-plug a device (device_add), after its back end: a netdev or none, as on the command line."""
        for name, value in zip(backend[::2], backend[1::2], strict=True):
            self._add({"-netdev": "netdev_add"}[name], json.loads(value))
        self._add("device_add", frontend)

    def _add(self, command: str, properties: dict[str, Any]) -> None:
        arguments = {key.replace("-", "_"): value for key, value in properties.items()}
        self.qmp.command(command, seconds=20, **arguments)

    def wait_end(self, seconds: float) -> Exit | None:
        """How it ended, if it does within `seconds` (stretched)."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(stretched(seconds))
        return self.exit()

    def quit(self, seconds: float = 10) -> Exit:
        """End QEMU the proper way; kill it if it does not go within `seconds` (stretched)."""
        self.stopping = True
        if self.exit() is None and self.qmp.is_ready:
            with contextlib.suppress(CprError):
                self.qmp.command("quit")
                self.process.wait(stretched(seconds))
        return self.kill()

    def kill(self, number: int = signal.SIGKILL) -> Exit:
        """Send a signal (SIGKILL), wait for the end, give back how it ended. Harmless when it is over.

        Raises CprError when it does not end: the kernel holds it.
        """
        self.stopping = True
        if self.exit() is None:
            os.kill(self.pid, number)
            try:
                self.process.wait(stretched(10))
            except subprocess.TimeoutExpired as error:
                raise CprError(f"{self.actor}, process {self.pid}, survives signal {number}") from error
        self.qmp.close()
        self.shell_socket.close()
        ended = self.exit()
        assert ended is not None
        return ended

    def wait_run_state(self, *wanted: str, seconds: float = 10) -> str:
        """Wait until the run state is one of `wanted`."""

        def reached() -> str | None:
            state = self.run_state()
            if state is None:
                raise Died(f"{self.actor} should become {' or '.join(wanted)}: {self.gone()}")
            return state if state in wanted else None

        state = wait_until(
            f"{self.actor} to be {' or '.join(wanted)}", reached, seconds, lambda: str(self.run_state())
        )
        assert state is not None
        return state
