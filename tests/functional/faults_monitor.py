# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in the middle of a transfer, and wrong ones: they are refused, or do what they say (C-35)."""

import random

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults.monitor import BadArguments, CancelAfter, Command, MigrateAgain
from cprtest.faults.stations import Acquired, At, Committed, Handover, Loaded, Streaming
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

CANCELLED = Expected(reported=("cancelled",))
IN_DOUBT = Expected("in-doubt", error="the target may be running it")
COMPLETED = Expected("completed", ("completed",))
EITHER = Expected("either", ("cancelled", "completed"))
EARLY = (Handover, Acquired, Streaming)
ACKNOWLEDGED = ("trace:migration_cpr_commit",)
LONGEST_MS = 80
"""After `migrate`: some transfers have ended by then."""


@needs("qemu:cpr-transfer")
class Monitor(FaultTest):
    """
    Avocado parameters of test_cancel_at_any_time: count, how many are drawn (default 40); seed (default 1).

    :avocado: tags=full
    """

    def test_cancel(self):
        """`migrate_cancel` at each station before the commit brings the guest back, not after it."""
        cases = [Case(At(station(), Command("migrate_cancel")), CANCELLED) for station in EARLY]
        self.strike(
            [
                *cases,
                Case(At(Loaded(), Command("migrate_cancel")), CANCELLED, needs=ACKNOWLEDGED),
                Case(At(Committed(), Command("migrate_cancel")), COMPLETED, needs=ACKNOWLEDGED),
            ]
        )

    def test_cancel_at_any_time(self):
        """`migrate_cancel` at random instants: one side has the guest, QEMU says which (C-21)."""
        chance = random.Random(int(self.params.get("seed", default=1)))
        count = int(self.params.get("count", default=40))
        instants = [chance.uniform(0, LONGEST_MS) for _ in range(count)]
        self.strike([Case(CancelAfter(ms), EITHER) for ms in instants])

    @needs("qemu:trace:migration_cpr_stop")
    def test_refused(self):
        """`cont`, `migrate` and hot plug are refused on the way; the transfer completes."""
        refused = [
            Command("cont", refused=True),
            Command("device_del", refused=True, id="disk0"),
            Command("device_add", refused=True, driver="virtio-rng-pci", id="rng1", bus="port5"),
            MigrateAgain(),
        ]
        self.strike([Case(At(station(), action), COMPLETED) for station in EARLY for action in refused])

    def test_harmless(self):
        """Questions and parameters, asked in the middle, change nothing: the transfer completes."""
        harmless = [
            Command("query-migrate"),
            Command("query-status"),
            Command("query-block"),
            Command("system_powerdown"),
        ]
        self.strike([Case(At(station(), action), COMPLETED) for station in EARLY for action in harmless])

    def test_quit_of_the_target(self):
        """The target quits: the guest is back on the source, by `cont` if the target had said yes."""
        cases = [Case(At(station(), Command("quit", side="target"))) for station in (Acquired, Streaming)]
        self.strike([*cases, Case(At(Loaded(), Command("quit", side="target")), IN_DOUBT, ACKNOWLEDGED)])

    def test_quit_of_the_source(self):
        """The source is told to quit: it ends, and the target does not run half a guest."""
        self.strike([Case(At(station(), Command("quit")), Expected("lost")) for station in EARLY])

    def test_yank(self):
        """The migration's connection is yanked in the middle: the guest is back on the source.

        Before there is a main channel there is nothing to yank, and the transfer completes.
        """
        instances = [{"type": "migration"}]
        none = Command("yank", refused=True, instances=instances)
        early = [Case(At(station(), none), COMPLETED) for station in (Handover, Acquired)]
        self.strike([*early, Case(At(Streaming(), Command("yank", instances=instances)))])

    def test_bad_arguments(self):
        """Arguments that are wrong are refused before anything happens, and QEMU lives on."""

        def mode(value):
            return lambda qmp: qmp.command("migrate-set-parameters", mode=value)

        def capability(name, state):
            return lambda qmp: qmp.command(
                "migrate-set-capabilities", capabilities=[{"capability": name, "state": state}]
            )

        by_name = {"transport": "socket", "type": "fd", "str": "given-by-getfd"}
        file = {"transport": "file", "filename": "/dev/null", "offset": 0}
        faults = [
            BadArguments("without-main-channel", lambda channels: {"channels": channels[1:]}),
            BadArguments("without-cpr-channel", lambda channels: {"channels": channels[:1]}),
            BadArguments("no-channel", lambda _: {"channels": []}),
            BadArguments("two-main-channels", lambda channels: {"channels": [*channels, channels[0]]}),
            BadArguments("two-cpr-channels", lambda channels: {"channels": [*channels, channels[1]]}),
            BadArguments("neither-uri-nor-channels", lambda _: {}),
            BadArguments(
                "main-channel-by-descriptor",
                lambda channels: {"channels": [{**channels[0], "addr": by_name}, channels[1]]},
            ),
            BadArguments("uri-only", lambda _: {"uri": "unix:/nowhere"}),
            BadArguments("uri-and-channels", lambda channels: {"uri": "unix:/nowhere", "channels": channels}),
            BadArguments(
                "file-transport", lambda channels: {"channels": [{**channels[0], "addr": file}, channels[1]]}
            ),
            BadArguments(
                "mode-changed-to-exec",
                lambda channels: {"channels": channels},
                mode("cpr-exec"),
                mode("normal"),
            ),
            BadArguments(
                "with-postcopy",
                lambda channels: {"channels": channels},
                capability("postcopy-ram", True),
                capability("postcopy-ram", False),
            ),
        ]
        tcp = {"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "1"}
        late = BadArguments(
            "cpr-channel-by-tcp", lambda channels: {"channels": [channels[0], {**channels[1], "addr": tcp}]}
        )
        cases = [Case(fault, Expected("refused")) for fault in faults]
        self.strike([*cases, Case(late, Expected(error="must be unix"))])
