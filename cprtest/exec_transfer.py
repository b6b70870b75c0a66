# SPDX-License-Identifier: GPL-2.0-or-later
"""One cpr-exec: a transfer whose target is what the source's own process becomes."""

from typing import Any

from cprtest.limits import wait_until
from cprtest.machine.execed import Execed
from cprtest.machine.process import Machine
from cprtest.machine.spec import GuestSpec, incoming
from cprtest.transfer import TargetPlan, Transfer


class ExecTransfer(Transfer):
    """A cpr-exec: the source's process becomes the new QEMU. `start_target` makes an Execed.

    There is one process: `target` is what it is after execve. The device state goes through a file.
    """

    target: Execed

    @property
    def channels(self) -> list[dict[str, Any]]:
        address = {"transport": "file", "filename": str(self.scratch / "state"), "offset": 0}
        return [{"channel-type": "main", "addr": address}]

    def _planned(self, spec: GuestSpec) -> TargetPlan:
        return TargetPlan(spec, incoming(self.channels), [])

    def _started_target(self) -> Machine:
        return self._start_target(self.plan)

    def _parameters(self) -> dict[str, Any]:
        return {"mode": "cpr-exec", "cpr-exec-command": self.target.argv}

    def _reported(self) -> str:
        # The last words of a monitor may be lost in execve. The new one speaks after success only.
        return "completed" if self.target.qmp.is_ready else super()._reported()

    def _settle(self) -> None:
        def replaced() -> bool:
            return self.target.qmp.is_ready or self._reported() == "failed" or self.source.exit() is not None

        if self._reported() == "completed":
            wait_until(
                "the new QEMU to greet", replaced, 20, lambda: f"its log ends: {self.source.last_words()}"
            )
        if self.target.qmp.is_ready:
            self.target.take_over()
        super()._settle()
