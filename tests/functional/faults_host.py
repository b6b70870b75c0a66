# SPDX-License-Identifier: GPL-2.0-or-later
"""The host is short of something, or changes on the way: one side has the guest, and says why (C-37)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults.command_line import OtherTarget, starved
from cprtest.faults.host import ClockStepped, DeviceError, DeviceRemoved, InterfaceDeleted, LinkDown
from cprtest.faults.stations import Acquired, At, Handover, Streaming
from cprtest.faults.vhost_worker import WorkerStarved
from cprtest.faulttest import FaultTest
from cprtest.host import vfio
from cprtest.host.aer import report_error
from cprtest.host.pci import PciDevice
from cprtest.host.removal import Removal
from cprtest.host.runs import Run
from cprtest.needs import needs
from cprtest.test import Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo
from cprtest.workloads.clocks import Clocks
from cprtest.workloads.passthrough import exercisers

COMPLETED = Expected("completed", ("completed",))
HOUR = 3600
"""Seconds."""
TOLD = "Unrecoverable error detected"
"""What QEMU says of a device's error."""


@needs("qemu:cpr-transfer")
class Host(FaultTest):
    """
    :avocado: tags=full
    """

    def test_starved_target(self):
        """A target that gets a CPU only when nobody else wants it takes its time, and takes over."""
        self.strike([Case(OtherTarget("starved", starved), COMPLETED)])

    @needs("tun", "netns")
    def test_link_down(self):
        """The tap's link is down on the way: packets wait, the stream goes on when it is up again."""
        actions = [At(station(), LinkDown(self.network)) for station in (Handover, Acquired, Streaming)]
        campaign = self.campaign(
            net=Tap(vhost=False), load=lambda guest: echo.tcp(guest, self.network).wait_progress
        )
        self.strike([Case(fault, COMPLETED) for fault in actions], campaign)

    @needs("tun", "netns", "qemu:tap-cpr")
    def test_interface_deleted(self):
        """The tap's interface is deleted on the way: the target refuses it, the guest goes on (C-20)."""
        campaign = self.campaign(net=Tap(vhost=False), followed=False)
        self.strike([Case(At(Handover(), InterfaceDeleted(self.network)))], campaign)

    @needs("lab", "root", "kvm", "vhost-net", "tun", "netns", "qemu:tap-cpr")
    def test_vhost_worker_starved(self):
        """The source's vhost worker gets hardly any CPU: the release waits for it, the target owns then."""
        campaign = self.campaign(
            net=Tap(vhost=True), load=lambda guest: echo.tcp(guest, self.network).wait_progress
        )
        self.strike([Case(WorkerStarved(), COMPLETED)], campaign)

    @needs("lab", "root")
    def test_clock_stepped(self):
        """The host's clock is set ahead or back on the way: the guest's clocks and QEMU's figure are true."""
        guest = self.boot()
        clocks = Clocks(guest)
        for fault in [At(s(), ClockStepped(by)) for s in (Handover, Streaming) for by in (HOUR, -HOUR)]:
            clocks.wait_progress()
            outcome = self.transfer(guest, fault=fault)
            outcome.assert_completed()
            told, seen = outcome.timeline.downtime["qemu"], outcome.timeline.between("stop", "complete")
            self.assertAlmostEqual(told / 1e9, seen / 1e9, delta=1, msg=f"QEMU's downtime {tag('complete')}")
        self.cross(guest, clocks)

    @needs("lab", "root", "kvm", "qemu:vfio-cpr", "qemu:trace:migration_cpr_commit", "vfio:nvme")
    def test_device_removed(self):
        """A passthrough device is taken off the host's bus on the way: who has the guest then lets it go."""
        guest = self.boot(passthrough=["nvme"])
        (device,) = guest.passthrough
        removal = self.bed.hold(Removal(PciDevice(device.address)))
        for fault in (
            At(Handover(), DeviceRemoved(removal)),
            At(Handover(), DeviceRemoved(removal, cut=True)),
            At(Acquired(), DeviceRemoved(removal)),
            At(Streaming(), DeviceRemoved(removal)),
            At(Streaming(), DeviceRemoved(removal, cut=True)),
        ):
            exercisers(guest, lambda: self.network)[0].exercise()
            outcome = self.transfer(guest, fault=fault)
            outcome.assert_rolled_back() if "cut" in fault.name else outcome.assert_completed()
            guest.unplugged(device, seconds=8)  # stretched at least twice, and the kernel asks every ten
            if not removal.ends():
                self.fail(f"the guest has let {device.id} go, and a QEMU still has it {tag('handover')}")
            removal.put_back()
            self.transfer(guest).assert_completed()
            vfio.bind(PciDevice(device.address), Run.start())
            guest.plug(device)

    @needs("lab", "root", "kvm", "qemu:vfio-cpr", "vfio:e1000e")
    def test_device_error(self):
        """An error that a passthrough device reports on the way stops the guest, as it does else (D-027)."""
        guest = self.boot(passthrough=["e1000e"])
        fault = At(Streaming(), DeviceError(guest.passthrough[0].address))
        outcome = self.transfer(guest, fault=fault)
        if outcome.survivor != "none":
            told = [m.actor for m in (outcome.source, outcome.target) if TOLD in m.log.read_text()]
            has = f"the guest runs on the {outcome.survivor} with a device that reported an error"
            self.fail(f"{has}, of which {' and '.join(told)} knew {tag('resume')}")
        self.assertEqual(outcome.states["target"], "internal-error", tag("resume"))

    @needs("lab", "root", "kvm", "vfio:e1000e")
    def test_device_error_without_a_transfer(self):
        """The same error while the guest runs stops it: QEMU's own rule."""
        guest = self.boot(passthrough=["e1000e"])
        report_error(guest.passthrough[0].address)
        guest.machine.wait_run_state("internal-error")
