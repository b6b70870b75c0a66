# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors of a tap arrive as they were, none is left behind, and the source's deliver nothing."""

from pathlib import Path

from cprtest.host import tap
from cprtest.host.tap_open import DownScript
from cprtest.limits import wait_until
from cprtest.machine.tap_settings import settings
from cprtest.needs import needs
from cprtest.observe.proc import Generations
from cprtest.test import CprTest, Tap
from cprtest.timeline.timeline import tag
from cprtest.workloads import echo

GENERATIONS = 50


@needs("qemu:cpr-transfer", "tun", "netns")
class Descriptors(CprTest):
    """
    :avocado: tags=full
    """

    def test_tap_is_set_as_before(self):
        """Queues, blocking, header size, offloads, MAC filters and interface flags are as before (C-20)."""
        self.tap_is_set_as_before(Tap(vhost=False, queues=2))

    @needs("kvm", "vhost-net")
    def test_tap_with_vhost_is_set_as_before(self):
        """The same for a tap that kernel vhost serves."""
        self.tap_is_set_as_before(Tap(vhost=True, queues=2))

    @needs("qemu:tap-cpr")
    def test_source_that_is_kept_takes_no_packet(self):
        """A source that is left running reads no packet: the guest receives all that leave the tap (C-02)."""
        guest = self.boot(net=Tap(vhost=False))
        before = self.stolen(guest)
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        self.transfer(guest, keep_source=True).assert_completed()
        stream.wait_progress()
        stream.stop()
        self.assertEqual(self.stolen(guest), before, tag("setup", "acquire"))

    @needs("qemu:tap-cpr")
    def test_down_script(self):
        """The QEMU that has the guest last gives the tap up and runs its down script, the source does not."""
        script = DownScript(Path(self.workdir))
        guest = self.boot(net=Tap(vhost=False, down_script=script.program))
        self.transfer(guest).assert_completed()
        self.assertEqual(script.ran_by(), [], f"QEMUs that gave up the tap in use {tag('complete')}")
        guest.machine.quit()
        self.assertEqual(script.ran_by(), [guest.machine.pid])

    def test_fifty_generations(self):
        """The fiftieth QEMU of a guest with a tap holds the descriptors that the first one held (C-32)."""
        guest = self.boot(net=Tap(vhost=False))
        stream = echo.tcp(guest, self.network)
        generations = Generations()
        generations.check(guest.machine)
        for _ in range(GENERATIONS):
            self.transfer(guest).assert_completed()
            generations.check(guest.machine)
        stream.wait_progress()
        stream.stop()

    def tap_is_set_as_before(self, net: Tap):
        guest = self.boot(net=net)
        guest.run("ethtool -L eth0 combined 2 && ip link add link eth0 name eth0.7 type vlan id 7")
        before = settings(guest, self.network)
        self.transfer(guest).assert_completed()
        for what, now in settings(guest, self.network).items():
            self.assertEqual(now, before[what], what)

    def stolen(self, guest) -> int:
        """How many packets were read from the tap, less those that the guest received, when all is quiet."""
        readings = []

        def quiet() -> bool:
            received = int(guest.run("cat /sys/class/net/eth0/statistics/rx_packets"))
            readings.append(tap.packets_read(self.network, "tap0") - received)
            return readings[-2:] == [readings[-1]] * 2

        wait_until("packets to come to rest", quiet, 10, lambda: str(readings), interval=0.2)
        return readings[-1]
