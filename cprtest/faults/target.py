# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures of the target, and of the way to it. Real ones: a real QEMU that hangs, dies or is not there."""

import signal
from typing import Any

from cprtest.transfer import Transfer


class MainRefused:
    """Nobody listens where the source connects the main channel, though the target has taken over (C-06)."""

    name = "main-refused"
    phase = "stream"
    side = "source"

    def prepare(self, transfer: Transfer) -> None:
        """Before `migrate`: the source is sent to a socket that is not there."""
        address: dict[str, Any] = transfer.channels[0]["addr"]
        address["path"] += "-nowhere"

    def strike(self, transfer: Transfer) -> None:
        """After `migrate`: it strikes by itself."""


class _StoppedTarget:
    """A target that does not read the descriptors: what happens then is up to the fault."""

    phase = "acquire"
    side = "target"

    def prepare(self, transfer: Transfer) -> None:
        """Before `migrate`: the target is stopped, so that it cannot be too fast."""
        transfer.target.process.send_signal(signal.SIGSTOP)


class TargetKilled(_StoppedTarget):
    """The target is killed after the descriptors have left, before it has read them."""

    name = "target-killed"

    def strike(self, transfer: Transfer) -> None:
        """After `migrate`: the descriptors are in the socket."""
        transfer.target.kill()


class TargetHangs(_StoppedTarget):
    """The target never closes the cpr channel, and the user cancels (C-21)."""

    name = "target-hangs"

    def strike(self, transfer: Transfer) -> None:
        """After `migrate`, while the source waits."""
        transfer.source.qmp.command("migrate_cancel")


class ExecFails:
    """cpr-exec: there is no such program, so execve fails after the source has completed."""

    name = "exec-fails"
    phase = "handover"
    side = "source"

    def prepare(self, transfer: Transfer) -> None:
        """Before `migrate`: the command leads nowhere."""
        command = [f"{transfer.target.qemu}-nowhere"]
        transfer.source.qmp.command("migrate-set-parameters", cpr_exec_command=command)

    def strike(self, transfer: Transfer) -> None:
        """After `migrate`: it strikes by itself."""
