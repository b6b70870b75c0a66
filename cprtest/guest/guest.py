# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest as a test sees it: the same object before and after a transfer."""

import time

from cprtest.errors import CprError
from cprtest.guest import GuestError
from cprtest.guest.console import ConsoleShell, Interrupted, Result
from cprtest.limits import met, stretched, wait_until
from cprtest.machine import autopsy
from cprtest.machine.devices import Nic, queues
from cprtest.machine.plugged import Passthrough, Plugged
from cprtest.machine.process import DEAD_ENDS, Machine
from cprtest.machine.spec import GuestSpec

_HANG = 5
"""Seconds. Who gives a guest less to answer does not take it for hung."""


class GuestDied(GuestError, AssertionError):
    """QEMU, or the guest, ended that should have lived: a verdict, and no trouble of the test's."""


class Guest:
    """A running guest. `machine` is the QEMU that runs it now, `spec` what it is made of there."""

    spec: GuestSpec

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.spec = machine.spec
        self.directory = machine.log.parent  # of the evidence; that of later QEMUs lies below it
        self._shell = ConsoleShell(machine.shell_socket)

    def run(self, command: str, seconds: float = 10) -> str:
        """Run a shell command in the guest over the console; its output. Raises CprError if it fails.

        `seconds` is stretched.
        """
        result = self._result(command, seconds)
        if result.status:
            raise CprError(f"guest: `{command}` ended with status {result.status}: {result.output.strip()}")
        return result.output

    def succeeds(self, command: str, seconds: float = 10) -> bool:
        """Whether a shell command in the guest ends with status 0."""
        return self._result(command, seconds).status == 0

    def _result(self, command: str, seconds: float) -> Result:
        """Run a command; give up as soon as there is no guest left that could answer."""
        limit = stretched(seconds)
        start = time.monotonic()
        deadline = start + limit
        try:
            self._shell.send(command)
        except Interrupted as broken:
            self._mourn(command, broken)
            raise
        while True:
            try:
                result = self._shell.receive(min(2.0, limit))
                met(seconds, start)
                return result
            except GuestError as silence:
                self._mourn(command, silence)
                if isinstance(silence, Interrupted) or time.monotonic() > deadline:
                    waited = f"{time.monotonic() - start:.0f} s"
                    state = self.machine.run_state()
                    why = f"no reply within {waited}, QEMU is {state}"
                    if seconds >= _HANG and state:
                        autopsy.write(self.machine, self.directory / "hang.log")
                    raise GuestError(f"guest command `{command}`: {why}") from silence

    def _mourn(self, command: str, silence: GuestError) -> None:
        """Raises GuestDied if that is why there was no reply."""
        if isinstance(silence, Interrupted):  # the console's other end was closed: by QEMU's end?
            self.machine.wait_end(1)
        if dead := self.dead():
            raise GuestDied(f"guest command `{command}`: {dead}") from silence

    def dead(self) -> str | None:
        """Why the guest will never do anything again, or None."""
        if gone := self.machine.gone():
            return gone
        state = self.machine.run_state()
        if state in DEAD_ENDS:
            return f"QEMU is in run state {state}; its last words: {self.machine.last_words()}"
        return None

    def suspend(self) -> None:
        """Put the guest to sleep (ACPI S3) and wait until it is."""
        self._shell.send("echo mem > /sys/power/state")  # its reply comes when the guest is awake again
        self.machine.wait_run_state("suspended")

    def wake(self) -> None:
        """Wake a guest that sleeps."""
        self.machine.qmp.command("system_wakeup")
        self.machine.wait_run_state("running")

    def follow(self, machine: Machine) -> None:
        """The guest has moved to `machine`: go on with that one's console."""
        self.machine = machine
        self.spec = machine.spec
        self._shell.attach(machine.shell_socket)

    @property
    def passthrough(self) -> list[Passthrough]:
        """The passthrough devices of the guest."""
        return [device for device in self.spec.devices if isinstance(device, Passthrough)]

    @property
    def vhost_queues(self) -> int:
        """Queue pairs of NICs that vhost serves, each with a worker in the QEMU that owns it."""
        return len(queues(self.spec.devices, vhost=True))

    def plug(self, device: Plugged) -> None:
        """Hot-plug `device` into the running guest and wait until the guest is ready to use it."""
        self.machine.plug(device.backend(), device.frontend())
        self.spec = self.spec.with_devices(device)
        wait_until(
            f"the guest to find {device.id}",
            lambda: self.succeeds(device.ready),
            10,
            lambda: "its PCI devices are " + " ".join(self.run("ls /sys/bus/pci/devices").split()),
            interval=0.05,
        )

    def unplug(self, device: Plugged, *, netdev_first: bool = False, seconds: float = 20) -> None:
        """Take a device out of the running guest, and then delete its netdev if it has one, or before.

        Waits until QEMU has deleted the device, which it does when the guest lets go of it; `seconds`,
        stretched, at most.
        """
        netdevs = [device.netdev] if isinstance(device, Nic) else []
        steps = [("device_del", device.id), *(("netdev_del", netdev) for netdev in netdevs)]
        for command, name in reversed(steps) if netdev_first else steps:
            self.machine.qmp.command(command, id=name)
            if command == "device_del":
                self.unplugged(device, seconds)

    def unplugged(self, device: Plugged, seconds: float = 20) -> None:
        """Wait until QEMU has deleted a device that was taken out of the running guest, by whomever."""
        self.machine.qmp.wait_any("DEVICE_DELETED", "device", [device.id], seconds)
        self.spec = self.spec.without(device)
