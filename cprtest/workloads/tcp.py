# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP streams: no connection breaks, whatever becomes of the QEMU that serves it.

Beside the streams a connection lies idle, and is used at the end.
"""

from dataclasses import replace

from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.machine.devices import GUEST_ADDRESS
from cprtest.workloads.connection import Connection
from cprtest.workloads.history import Problem
from cprtest.workloads.streams import Connect, Streams


def to_guest(network: Network) -> Connect:
    """Connects to the guest's first NIC."""
    return lambda port: network.connect(GUEST_ADDRESS.format(0), port)


class TcpStreams(Streams):
    """`connections` streams each way, and an idle connection. `pause_us`: microseconds of rest a chunk."""

    name = "tcp"
    port = 7008
    stalls = ("stop", "resume")

    def __init__(self, guest: Guest, connect: Connect, connections: int = 4, pause_us: int = 20_000) -> None:
        super().__init__(guest, connect, connections, pause_us)
        self._idle = connect(self.port)
        self._used: Connection | None = None
        """The idle connection, once it is used."""

    def _last_words(self) -> None:
        """The idle connection carries a first chunk, which the guest reports as of one connection more."""
        idle = self._used = Connection(f"{self.name}.{len(self.connections)}", self._idle, 0)
        self.connections.append(idle)
        self._wait(
            "the idle connection", lambda: [] if idle.error else self._short_of({str(idle): 1}, "chunk")
        )
        idle.stop()
        idle.join()

    def _faults(self, end: Connection) -> list[Problem]:
        found = super()._faults(end)
        if end is self._used:
            return [replace(problem, text=f"{problem.text} (it had been idle)") for problem in found]
        return found
