# SPDX-License-Identifier: GPL-2.0-or-later
"""A system call fails, comes late or does not come back: one side has the guest, with its network and data.

Which calls there are is seen in a transfer without a fault; each of them is then made to fail.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from cprtest.aftermath import Expected
from cprtest.campaign import Campaign, Case, Check, Load
from cprtest.faults.syscalls import ERRORS, CallFails, CallHeld, CallLate
from cprtest.faulttest import FaultTest
from cprtest.guest.guest import Guest
from cprtest.machine.vhost import assert_in_use
from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.test import Tap
from cprtest.workloads import echo
from cprtest.workloads.passthrough import exercisers

VHOST = ("kvm", "vhost-net", "qemu:tap-cpr")
COMPLETED = Expected("completed", ("completed",))
CANCELLED = Expected(reported=("cancelled",))
ANY = Expected("any", ("failed", "completed"))
MUST_ROLL_BACK = ("source SCM_RIGHTS", "source F_SETFL", "source VHOST_RESET_OWNER", "target VHOST_SET_OWNER")
"""Calls without which there is no hand-over; of others a QEMU may make do without."""
DETACHED = "source VHOST_NET_SET_BACKEND"
"""Takes the tap away from vhost, when the VM stops. QEMU asserts that it works, and the kernel has no reason
to refuse it to the owner of a device whose rings are in place (drivers/vhost/net.c): that is not a failure
that a host can have."""


@needs("qemu:cpr-transfer", "seccomp-notify", "tun", "netns")
class Syscalls(FaultTest):
    """
    :avocado: tags=full
    """

    def test_each_fails(self):
        """Each call for a tap, and each descriptor's sending, fails with each errno of the kernel's."""
        gate, campaign, calls = self.gated(Tap(vhost=False))
        self.strike(list(self.failures(gate, calls)), campaign)

    def test_blocking_mode(self):
        """The source cannot set whether a descriptor blocks: it gives up, and says so."""
        gate, campaign, calls = self.gated(None, self.by_nothing, flags=True)
        found = Counter({call: count for call, count in calls.items() if call == "source F_SETFL"})
        assert found, "the source set no descriptor's flags in a transfer"
        self.strike(list(self.failures(gate, found)), campaign)

    def test_late(self):
        """A call that takes 1 ms to 10 s delays the transfer, and nothing else."""
        gate, campaign, calls = self.gated(Tap(vhost=False))
        seconds = (0.001, 0.01, 0.1, 1.0)
        cases = [CallLate(gate, *call.split(), by) for call in calls for by in seconds]
        cases.append(CallLate(gate, "source", "SCM_RIGHTS", 10.0))
        self.strike([Case(fault, COMPLETED) for fault in cases], campaign)

    @needs("qemu:tap-cpr")
    def test_target_held(self):
        """The target hangs in the kernel: `migrate_cancel` brings the guest back, whatever it does later."""
        gate, campaign, _ = self.gated(Tap(vhost=False))
        self.strike([Case(CallHeld(gate, "TUNSETOFFLOAD"), CANCELLED)], campaign)

    @needs(*VHOST)
    def test_vhost_owner(self):
        """Releasing and owning a vhost device fails with each errno of the kernel's: rolled back (C-05)."""
        gate, campaign, calls = self.gated(Tap(vhost=True), self.by_vhost)
        owner = Counter({call: count for call, count in calls.items() if call.endswith("_OWNER")})
        self.strike(list(self.failures(gate, owner)), campaign)

    @needs(*VHOST)
    def test_vhost_rings(self):
        """Any other call for a vhost device fails, once on each side that makes it."""
        gate, campaign, calls = self.gated(Tap(vhost=True))
        rings = [c for c in calls if "VHOST" in c and not c.endswith("_OWNER") and c != DETACHED]
        faults = [CallFails(gate, *call.split(), ERRORS[call.split()[1]][0]) for call in rings]
        self.strike([Case(fault, ANY) for fault in faults], campaign)

    @needs(*VHOST)
    def test_vhost_held(self):
        """The target hangs when it wants to own the device: `migrate_cancel` brings the guest back (C-21)."""
        gate, campaign, _ = self.gated(Tap(vhost=True), self.by_vhost)
        self.strike([Case(CallHeld(gate, "VHOST_SET_OWNER"), CANCELLED)], campaign)

    @needs("kvm", "qemu:vfio-cpr", "qemu:trace:migration_cpr_commit", "vfio:ivshmem")
    def test_vfio(self):
        """Each call for a passthrough device that the gate knows fails: DMA mapped, a reset (C-13).

        On a source that has completed before the target has loaded (D-007) the guest is lost, and no `cont`
        brings it back: KVM is closed (D-018).
        """
        gate, campaign, calls = self.gated(None, self.by_device, passthrough=["ivshmem"])
        vfio = Counter({call: count for call, count in calls.items() if " VFIO_" in call})
        assert vfio, "a passthrough device was handed over, and the gate saw no call for it"
        first = Counter(dict.fromkeys(vfio, 1))
        self.strike(list(self.failures(gate, first)), campaign)

    def failures(self, gate: Gate, calls: Counter[str]) -> Iterator[Case]:
        """Each call with each errno, and with one at later places."""
        for call, count in calls.items():
            side, name = call.split()
            expected = Expected() if call in MUST_ROLL_BACK else ANY
            errors = ERRORS[name]
            places = [(1, error) for error in errors]
            places += [(nth, errors[nth % len(errors)]) for nth in range(2, count + 1)]
            for nth, error in places:
                yield Case(CallFails(gate, side, name, error, nth), expected)

    def gated(
        self, net: Tap | None, load: Load | None = None, *, flags: bool = False, **guest: Any
    ) -> tuple[Gate, Campaign, Counter[str]]:
        """A gate, a campaign behind it, and the calls of a transfer, as "SIDE NAME"."""
        gate = Gate(descriptors=not flags, flags=flags)
        self.observe(gate)
        campaign = self.campaign(net=net, load=load or self.by_network, **guest)
        outcome = campaign.transfer()
        outcome.assert_completed()
        seen = [event for event in outcome.timeline.events if event.observer == "gate"]
        return gate, campaign, Counter(f"{event.actor} {event.name}" for event in seen)

    def by_nothing(self, guest: Guest) -> Check:
        return lambda: guest.run("true")

    def by_network(self, guest: Guest) -> Check:
        return echo.tcp(guest, self.network).wait_progress

    def by_device(self, guest: Guest) -> Check:
        devices = exercisers(guest, lambda: self.network)

        def work() -> None:
            for device in devices:
                device.exercise()

        return work

    def by_vhost(self, guest: Guest) -> Check:
        arrives = self.by_network(guest)
        return lambda: assert_in_use(guest.machine.pid, guest.vhost_queues, arrives)
