# SPDX-License-Identifier: GPL-2.0-or-later
"""The four figures of a pause are there, and agree on when it was. How long it was no test asks."""

from cprtest.needs import needs
from cprtest.observe.heartbeat import Heartbeat
from cprtest.observe.pause import assert_nothing_ran, assert_told
from cprtest.observe.probe import Probe
from cprtest.observe.writes import Writes
from cprtest.test import CprTest, Tap


@needs("qemu:cpr-transfer", "tun", "netns")
class Downtime(CprTest):
    """
    :avocado: tags=downtime,full
    """

    def test_figures_agree(self):
        """vCPUs, network and disk stand still from stop to resume, and QEMU's own figure is of that time."""
        self.figures_agree(Tap(vhost=False))

    @needs("kvm", "vhost-net", "qemu:tap-cpr")
    def test_figures_agree_with_vhost(self):
        """The same with kernel vhost."""
        self.figures_agree(Tap(vhost=True))

    def figures_agree(self, net: Tap):
        self.observe(Heartbeat(busy=True), Probe(self.network), Writes())
        outcome = self.transfer(self.boot(net=net, disk=self.disk()))
        outcome.assert_completed()
        for figure in ("vcpu", "network", "disk"):
            assert_nothing_ran(outcome.timeline, figure)
        assert_told(outcome.timeline)
