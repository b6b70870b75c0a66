# SPDX-License-Identifier: GPL-2.0-or-later
"""Each step of the hand-over comes when it must: stop, setup, release, handover, acquire, stream, resume."""

from cprtest.faults.target import ExecFails
from cprtest.machine.devices import queues
from cprtest.needs import needs
from cprtest.test import CprTest, Tap
from cprtest.timeline.takeover import Place, assert_given_up
from cprtest.timeline.timeline import Timeline, tag
from cprtest.workloads import echo
from cprtest.workloads.data import DiskData

ALL = ("stop", "setup", "release", "handover", "acquire", "stream", "resume")


class OrderingTest(CprTest):
    def guest_crosses_in_order(self, **devices) -> None:
        """A guest with `devices` is handed over in the right order, every vhost queue released on its way."""
        guest = self.boot(**devices)
        outcome = self.transfer(guest)
        outcome.assert_completed()
        timeline = outcome.timeline
        timeline.assert_order()
        # The run state says that the VM stops, this event that it has stopped.
        timeline.assert_between("stop", "handover", actor="source", name="STOP")
        guest.run("true")
        vsock = [("vsock0", 0)] if devices.get("vsock") else []
        self.released(timeline, [*queues(guest.spec.devices, vhost=True), *vsock])

    def released(self, timeline: Timeline, places: list[Place]) -> None:
        """Each vhost queue was given up between the stop and the handover, by all who can tell."""
        traced = any(event.name == "migration_cpr_setup" for event in timeline.events)
        watched = any(event.observer == "tracefs" for event in timeline.events)
        if traced:
            told = timeline.events_between("stop", "handover", actor="source", name="vhost_cpr_release")
            self.assertEqual(len(told), len(places), f"queues released, as QEMU has it {tag('release')}")
        if not places:
            return
        if watched:
            assert_given_up(timeline, places)
        if traced or watched:
            timeline.assert_order(*ALL)
        else:
            self.cancel("nothing shows when this QEMU releases its vhost devices; all else came in order")


@needs("qemu:cpr-transfer")
class Ordering(OrderingTest):
    """
    :avocado: tags=smoke
    """

    def test_source_stops_before_handover(self):
        """The VM is stopped and SETUP notifiers have run before the descriptors leave (D-003)."""
        self.guest_crosses_in_order()

    @needs("kvm", "vhost-net", "tun", "netns")
    def test_vhost_is_released_before_handover(self):
        """The source gives its vhost device up between the stop and the handover (C-04, C-10, D-003)."""
        self.guest_crosses_in_order(net=Tap(vhost=True))


@needs("qemu:cpr-transfer")
class OrderingOfGuests(OrderingTest):
    """
    :avocado: tags=full
    """

    def test_paused_guest(self):
        """A paused guest is handed over in the same order, and nobody resumes it (C-11, D-003)."""
        guest = self.boot()
        guest.machine.qmp.command("stop")
        outcome = self.transfer(guest)
        outcome.assert_completed()
        outcome.timeline.assert_order(*(phase for phase in ALL if phase not in ("release", "resume")))
        self.assertEqual(outcome.states["target"], "paused", tag("resume"))
        outcome.target.qmp.command("cont")
        guest.run("true")

    def test_suspended_guest(self):
        """A guest in S3 is handed over asleep, in the same order, and wakes on the target (C-11, D-003)."""
        guest = self.boot()
        guest.suspend()
        outcome = self.transfer(guest)
        outcome.assert_completed()
        outcome.timeline.assert_order(*(phase for phase in ALL if phase not in ("release", "resume")))
        self.assertEqual(outcome.states["target"], "suspended", tag("resume"))
        guest.wake()
        guest.run("true")

    @needs("tun", "netns")
    def test_tap(self):
        """A tap that QEMU itself serves needs no release; all else comes in order (D-003)."""
        self.guest_crosses_in_order(net=Tap(vhost=False))


@needs("qemu:cpr-transfer", "kvm")
class OrderingOfDevices(OrderingTest):
    """
    :avocado: tags=full
    """

    @needs("vhost-net", "tun", "netns")
    def test_two_queue_pairs(self):
        """Both queue pairs of a vhost NIC are released before the handover (C-01, C-04, D-003)."""
        self.guest_crosses_in_order(net=Tap(vhost=True, queues=2))

    @needs("vhost-net", "tun", "netns")
    def test_four_queue_pairs(self):
        """The same with four queue pairs (C-01, D-003)."""
        self.guest_crosses_in_order(net=Tap(vhost=True, queues=4))

    @needs("vhost-net", "tun", "netns")
    def test_eight_queue_pairs(self):
        """The same with eight queue pairs (C-01, D-003)."""
        self.guest_crosses_in_order(net=Tap(vhost=True, queues=8))

    @needs("vhost-net", "tun", "netns")
    def test_two_nics(self):
        """Two vhost NICs are both released before anything is handed over (C-04, D-003)."""
        self.guest_crosses_in_order(net=[Tap(vhost=True), Tap(vhost=True, index=1)])

    @needs("vhost-vsock", "root")
    def test_vhost_vsock(self):
        """A vhost-vsock device is released before the handover (C-04, D-004)."""
        self.guest_crosses_in_order(vsock=True)

    @needs("qemu:vfio-cpr", "vfio:virtio-net")
    def test_vfio(self):
        """A guest with a passthrough device is handed over in order (C-13, D-003)."""
        self.guest_crosses_in_order(passthrough=["virtio-net"])

    @needs("qemu:vfio-cpr", "vfio:virtio-net", "vfio:nvme", "vfio:igb-vf", "vfio:ivshmem")
    def test_several_vfio_devices(self):
        """The same with four passthrough devices of four kinds (C-13, C-14, D-003)."""
        self.guest_crosses_in_order(passthrough=["virtio-net", "nvme", "igb-vf", "ivshmem"])

    @needs(
        "qemu:vfio-cpr", "vhost-net", "vhost-vsock", "root", "tun", "netns", "vfio:virtio-net", "vfio:nvme"
    )
    def test_everything_together(self):
        """Two vhost NICs with three queue pairs, vsock and two passthrough devices cross in order (C-04)."""
        nets = [Tap(vhost=True, queues=2), Tap(vhost=True, index=1)]
        self.guest_crosses_in_order(net=nets, vsock=True, passthrough=["virtio-net", "nvme"])


@needs("qemu:cpr-exec")
class OrderingOfExec(OrderingTest):
    """
    cpr-exec: one process. It stops the VM, writes the state, and becomes the new QEMU; that is the handover.

    :avocado: tags=full
    """

    def test_running_guest(self):
        """The state is written before execve, the handover; the new QEMU resumes the guest; twice."""
        guest = self.boot()
        pid = guest.machine.pid
        for _ in range(2):
            outcome = self.transfer(guest, mode="cpr-exec")
            outcome.assert_completed()
            outcome.timeline.assert_order("stop", "stream", "complete", "handover", "acquire", "resume")
            self.assertEqual(outcome.target.pid, pid, tag("handover"))
            guest.run("true")

    def test_paused_guest(self):
        """A paused guest crosses execve in the same order and stays paused (C-11)."""
        guest = self.boot()
        guest.machine.qmp.command("stop")
        outcome = self.transfer(guest, mode="cpr-exec")
        outcome.assert_completed()
        outcome.timeline.assert_order("stop", "stream", "complete", "handover", "acquire")
        self.assertEqual(outcome.states["target"], "paused", tag("resume"))
        outcome.target.qmp.command("cont")
        guest.run("true")

    @needs("tun", "netns", "qemu:tap-cpr")
    def test_tap_and_disk(self):
        """With a tap and a disk it is the same order, and a TCP stream crosses execve."""
        guest = self.boot(net=Tap(vhost=False), disk=self.disk())
        data = DiskData(guest)
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        outcome = self.transfer(guest, mode="cpr-exec")
        outcome.assert_completed()
        outcome.timeline.assert_order("stop", "stream", "complete", "handover", "acquire", "resume")
        stream.wait_progress()
        data.check()
        stream.stop()

    def test_execve_fails(self):
        """Without a program to become, the source goes on with the guest, and the next attempt succeeds."""
        guest = self.boot()
        outcome = self.transfer(guest, mode="cpr-exec", fault=ExecFails())
        outcome.assert_rolled_back()
        outcome.timeline.assert_order("stop", "stream", "complete", "handover", "rollback")
        guest.run("true")
        self.transfer(guest, mode="cpr-exec").assert_completed()
        guest.run("true")
