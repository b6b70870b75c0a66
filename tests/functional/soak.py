# SPDX-License-Identifier: GPL-2.0-or-later
"""Transfer after transfer, each with every observer at work, and not a single false alarm."""

import os

from cprtest.needs import needs
from cprtest.observe.gate import Gate
from cprtest.observe.heartbeat import Heartbeat
from cprtest.observe.pause import assert_nothing_lost, assert_paused
from cprtest.observe.probe import Probe
from cprtest.observe.proc import Generations, Proc
from cprtest.test import CprTest, Tap
from cprtest.workloads import echo
from cprtest.workloads.data import DiskData, MemoryData


@needs("qemu:cpr-transfer", "qemu:tap-cpr")
class Soak(CprTest):
    """
    Avocado parameter: count, how many transfers (default 100).

    :avocado: tags=soak
    """

    @needs("tun", "netns")
    def test_tap_and_disk(self):
        """A guest with tap and disk is handed over again and again, in order, no descriptor more (C-32)."""
        self.handed_over_again_and_again(Tap(vhost=False))

    @needs("kvm", "vhost-net", "tun", "netns")
    def test_vhost_net_and_disk(self):
        """The same with kernel vhost, released and acquired each time (C-04, C-32)."""
        self.handed_over_again_and_again(Tap(vhost=True), "release")

    def handed_over_again_and_again(self, net: Tap, *phases: str) -> None:
        self.observe(Gate(), Proc(), Heartbeat(busy=(os.cpu_count() or 1) > 1), Probe(self.network))
        guest = self.boot(net=net, disk=self.disk())
        data = [MemoryData(guest), DiskData(guest)]
        stream = echo.tcp(guest, self.network)
        stream.wait_progress()
        generations = Generations()
        generations.check(guest.machine)
        for _ in range(int(self.params.get("count", default=100))):
            outcome = self.transfer(guest)
            outcome.assert_completed()
            outcome.timeline.assert_order()
            outcome.timeline.assert_order("stop", *phases, "handover")
            self.assertEqual(outcome.timeline.violations, [], "violations of a transfer that is in order")
            assert_paused(outcome.timeline)
            assert_nothing_lost(outcome.timeline, but_overrun=True)  # in an emulated lab
            generations.check(guest.machine)
            stream.wait_progress()
        for part in data:
            part.check()
        stream.stop()
