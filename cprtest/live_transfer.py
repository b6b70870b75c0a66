# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user can do instead of cpr-transfer, for comparison: live migration on one host, and cpr-reboot."""

from pathlib import Path
from typing import Any

from cprtest.limits import wait_until
from cprtest.machine.process import Machine
from cprtest.machine.spec import GuestSpec, channel, incoming
from cprtest.transfer import TargetPlan, Transfer


class LiveTransfer(Transfer):
    """An ordinary live migration to a QEMU on the same host: memory is copied while the guest runs.

    Migration parameters are QEMU's defaults, but for the bandwidth, which nothing limits.
    """

    copies_memory = True

    def _planned(self, spec: GuestSpec) -> TargetPlan:
        self.main = {"type": "unix", "path": str(self.scratch / "main")}
        return TargetPlan(spec, incoming([channel("main", self.main)]), [])

    @property
    def channels(self) -> list[dict[str, Any]]:
        return [channel("main", self.main)]

    def _started_target(self) -> Machine:
        target = self._start_target(self.plan)
        # A monitor that answers is there before the channel is: QEMU greets, then it begins to listen.
        target.ready()
        path = Path(self.main["path"])
        wait_until("the target to listen", path.exists, 10, target.last_words, vain=target.gone)
        return target

    def _parameters(self) -> dict[str, Any]:
        return {"mode": "normal", "max-bandwidth": 0}


class RebootTransfer(Transfer):
    """A cpr-reboot without the reboot: memory stays in its file, the device state goes through another.

    That takes `boot(memory="shm")`. The old QEMU ends before the new one takes the guest, as the host's
    kernel would be replaced between them; the new one has been started already.
    """

    def _planned(self, spec: GuestSpec) -> TargetPlan:
        return TargetPlan(spec, ["-incoming", "defer"], [])

    @property
    def channels(self) -> list[dict[str, Any]]:
        address = {"transport": "file", "filename": str(self.scratch / "state"), "offset": 0}
        return [{"channel-type": "main", "addr": address}]

    def _started_target(self) -> Machine:
        target = self._start_target(self.plan)
        target.ready()
        self._share_memory(target)
        self._share_memory(self.source)
        return target

    @staticmethod
    def _share_memory(machine: Machine) -> None:
        wanted = [{"capability": name, "state": True} for name in ("events", "x-ignore-shared")]
        machine.qmp.command("migrate-set-capabilities", capabilities=wanted)
        machine.qmp.command("migrate-set-parameters", mode="cpr-reboot")

    def _parameters(self) -> dict[str, Any]:
        return {"mode": "cpr-reboot"}

    def _settle(self) -> None:
        if self._reported() == "completed":
            self.source.quit()
            self.target.qmp.command("migrate-incoming", channels=self.channels)
            wait_until("the new QEMU to run the guest", lambda: self.target.run_state() in self._wanted, 10)
        super()._settle()
