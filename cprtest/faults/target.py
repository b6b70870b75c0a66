# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures of the target, and of the way to it. Real ones: a real QEMU that hangs, dies or is not there."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from cprtest.faults.fault import Fault

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer


class MainRefused(Fault):
    """Nobody listens where the source connects the main channel, though the target has taken over (C-06)."""

    name = "main-refused"
    breaks = "the main channel's address"
    phase = "stream"
    side = "source"

    def ready(self, transfer: Transfer) -> None:
        """The source is sent to a socket that is not there."""
        transfer.main["path"] += "-nowhere"

    def confirm(self, outcome: Outcome) -> None:
        """The source says that it could not connect."""
        refused = outcome.first("source", "migrate_error", "Failed to connect")
        if refused:
            self.struck(f"the source traced {refused.data['text']}", refused.t)


class _StoppedTarget(Fault):
    """A target that does not read the descriptors: what happens then is up to the fault."""

    phase = "acquire"
    side = "target"

    def ready(self, transfer: Transfer) -> None:
        """The target is stopped, so that it cannot be too fast."""
        transfer.target.process.send_signal(signal.SIGSTOP)


class TargetKilled(_StoppedTarget):
    """The target is killed after the descriptors have left, before it has read them."""

    name = "target-killed"
    breaks = "the target's process"

    def strike(self, transfer: Transfer) -> None:
        """The descriptors are in the socket."""
        self.struck(f"the target ended, {transfer.target.kill()}")


class TargetHangs(_StoppedTarget):
    """The target never closes the cpr channel, and the user cancels (C-21)."""

    name = "target-hangs"
    breaks = "the target's answer on the cpr channel"

    def strike(self, transfer: Transfer) -> None:
        """While the source waits."""
        transfer.source.qmp.command("migrate_cancel")
        self.struck("the source accepted migrate_cancel while the target was stopped")


class ExecFails(Fault):
    """cpr-exec: there is no such program, so execve fails after the source has completed."""

    name = "exec-fails"
    breaks = "the command that the source becomes"
    phase = "handover"
    side = "source"

    def ready(self, transfer: Transfer) -> None:
        """The command leads nowhere."""
        command = [f"{transfer.target.qemu}-nowhere"]
        transfer.source.qmp.command("migrate-set-parameters", cpr_exec_command=command)

    def confirm(self, outcome: Outcome) -> None:
        """The source's log tells that execve failed."""
        said = outcome.source.last_words()
        if "-nowhere" in said:
            self.struck(f"the source says {said}")
