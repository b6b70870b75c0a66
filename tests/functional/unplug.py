# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that was unplugged is forgotten: no later transfer saves, sends or waits for anything of it."""

from collections import Counter

from cprtest.faults.main_channel import Cut
from cprtest.faults.stations import MIDDLE
from cprtest.limits import wait_until
from cprtest.machine.devices import GUEST_ADDRESS
from cprtest.machine.nics import PluggedTap
from cprtest.machine.vhost import workers
from cprtest.needs import needs
from cprtest.observe.proc import descriptors
from cprtest.test import CprTest
from cprtest.timeline.timeline import tag


@needs("qemu:cpr-transfer")
class Unplug(CprTest):
    """
    :avocado: tags=full
    """

    @needs("tun", "netns")
    def test_tap(self):
        """Descriptors of a NIC's tap and option ROM are not saved any more when it was unplugged (D-016)."""
        self.nic_is_forgotten(vhost=False)

    @needs("tun", "netns")
    def test_netdev_first(self):
        """The same when its netdev is deleted while the guest still has the NIC."""
        self.nic_is_forgotten(vhost=False, netdev_first=True)

    @needs("tun", "netns", "kvm", "vhost-net")
    def test_vhost_net(self):
        """The same for a NIC that kernel vhost serves."""
        self.nic_is_forgotten(vhost=True)

    @needs("kvm", "vhost-vsock", "root")
    def test_vhost_vsock(self):
        """The same for a vhost-vsock device."""
        guest = self.boot(vsock=True)
        self.is_forgotten(guest, guest.spec.devices[-1])

    @needs("vfio:nvme", "root", "qemu:vfio-cpr")
    def test_passthrough(self):
        """The same for a passthrough device, and the container and interrupts that it had."""
        guest = self.boot(passthrough=["nvme"])
        self.is_forgotten(guest, guest.passthrough[0])

    @needs("vfio:nvme", "root", "qemu:vfio-cpr", "qemu:trace:migration_cpr_commit")
    def test_passthrough_after_a_failure(self):
        """A passthrough device can be unplugged after a transfer that failed in the stream (D-025).

        On a source that has completed before the target has loaded (D-007) the guest is lost.
        """
        guest = self.boot(passthrough=["nvme"])
        self.transfer(guest, fault=Cut(MIDDLE)).assert_rolled_back()
        guest.unplug(guest.passthrough[0], seconds=2)

    def nic_is_forgotten(self, *, vhost: bool, netdev_first: bool = False):
        # Before the guest, whose QEMU has to be in that network. Without cpr it has two queues all the same.
        cpr = self.bed.preserves_taps
        net = PluggedTap(slot=0, vhost=vhost, queues=2).preserved(cpr).on_host(self.network)
        guest = self.boot()
        guest.plug(net)
        named = f"ls {net.guest_path}/virtio*/net"
        wait_until("the guest's driver to have the NIC", lambda: guest.succeeds(named), 10, interval=0.05)
        nic = guest.run(named).strip()
        guest.run(
            f"ip link set {nic} up && ip addr add {GUEST_ADDRESS.format(0)}/24 dev {nic} && "
            f"ethtool -L {nic} combined 2"
        )
        self.network.ping(GUEST_ADDRESS.format(0))
        self.is_forgotten(guest, net, netdev_first=netdev_first)

    def is_forgotten(self, guest, device, *, netdev_first: bool = False):
        guest.unplug(device, netdev_first=netdev_first)
        held = descriptors(guest.machine.pid)
        outcome = self.transfer(guest, keep_source=True)
        outcome.assert_completed()
        more = descriptors(guest.machine.pid) - held  # less is fine: the source keeps KVM's link to VFIO
        self.assertEqual(more, Counter(), tag("handover"))
        for machine in (outcome.source, outcome.target):
            self.assertEqual(workers(machine.pid), [], f"{machine.actor} {tag('handover')}")
