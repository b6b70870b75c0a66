# SPDX-License-Identifier: GPL-2.0-or-later
"""Random faults on random guests with random load: the invariants hold whatever comes together."""

import json
from pathlib import Path

from cprtest.explore.plan import Plan
from cprtest.explore.play import Player
from cprtest.explore.search import search
from cprtest.needs import needs
from cprtest.test import CprTest


@needs("qemu:cpr-transfer", "qemu:trace:migration_cpr_commit", "qemu:tap-cpr", "tun", "netns")
class Exploration(CprTest):
    """
    Avocado parameters: hours (default 0.1), seed (default 1); plan: only this one (scripts/run --plan).

    :avocado: tags=explore
    """

    def test_random_faults(self):
        """A guest that is put through faults which a seed chooses is always in one place, and whole."""
        self.explore("", "tap")

    @needs("kvm", "vhost-net")
    def test_random_faults_with_vhost(self):
        """The same with kernel vhost."""
        self.explore("vhost")

    def explore(self, *nets: str):
        player = Player(
            self.bed.qemu, self.bed.target_qemu, Path(self.logdir) / "plans", Path(self.workdir) / "plans"
        )
        given = Plan.parse(self.params.get("plan")) if self.params.get("plan") else None
        if given and given.net not in nets:
            self.cancel(f"The plan's guest has no NIC by {' or '.join(filter(None, nets))}.")
        hours, seed = float(self.params.get("hours", default=0.1)), int(self.params.get("seed", default=1))
        try:
            if given:
                player.play(given)
            else:
                search(player.play, nets, seed, 3600 * hours)
        finally:
            self.log.info("explored: %s", dict(player.counts))
            (Path(self.logdir) / "explored.json").write_text(json.dumps(player.counts) + "\n")
