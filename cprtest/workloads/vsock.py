# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams over vhost-vsock: connections end with every transfer, and both ends are told; listeners live on.

The virtio specification has it so (Virtio Socket Device, event TRANSPORT_RESET): the device tells the guest
that all connections are gone, and those that listen go on to. On the host the kernel resets the connections
of a CID whose device is closed. What would be wrong: a connection that breaks without a transfer, one that
lives on at one end and hangs, a listener that is gone, a byte that is not what it should be.
"""

import os
import socket
import struct

from cprtest.guest.guest import Guest
from cprtest.limits import stretched
from cprtest.machine.plugged import Vsock
from cprtest.timeline.timeline import tag
from cprtest.workloads.connection import Connection
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.streams import Connect, Streams

_CONNECT_SECONDS = 5
_SO_VM_SOCKETS_CONNECT_TIMEOUT = 6  # <linux/vm_sockets.h>; Python has no name for it


def connection(cid: int, port: int) -> socket.socket:
    """A connection to `port` of the guest with this context id. Raises OSError."""
    made = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        made.settimeout(stretched(_CONNECT_SECONDS))
        _limit_connect(made, stretched(_CONNECT_SECONDS))
        made.connect((cid, port))
    except OSError:
        made.close()
        raise
    return made


def _limit_connect(made: socket.socket, seconds: float) -> None:
    """Set the kernel's own limit, two seconds unless told: not enough for a guest in an emulated lab."""
    limit = struct.pack("ll", int(seconds), 0)
    # Of a socket that it knows to be AF_VSOCK, Python sets options of eight bytes only.
    with socket.socket(socket.AF_UNIX, fileno=os.dup(made.fileno())) as same:
        same.setsockopt(socket.AF_VSOCK, _SO_VM_SOCKETS_CONNECT_TIMEOUT, limit)


def to_guest(guest: Guest) -> Connect:
    """Connects to the guest's vhost-vsock device."""
    (cid,) = (device.cid for device in guest.spec.devices if isinstance(device, Vsock))
    return lambda port: connection(cid, port)


class VsockStreams(Streams):
    """`connections` streams each way, and as many new ones after a transfer. `connect`: to the guest."""

    name = "vsock"
    port = 7009
    refused = ConnectionError  # a reset, from a guest that does not listen
    stalls = ("acquire", "resume")

    def __init__(
        self,
        guest: Guest,
        connect: Connect | None = None,
        connections: int = 2,
        pause_us: int = 20_000,
    ) -> None:
        self._made_in: dict[str, int] = {}
        """Connections, and how many transfers had begun when they were made."""
        super().__init__(guest, connect or to_guest(guest), connections, pause_us)

    def _open_all(self, seconds: float) -> None:
        before = len(self.connections)
        super()._open_all(seconds)
        for end in self.connections[before:]:
            self._made_in[str(end)] = self.history.transfers

    def open(self) -> list[Connection]:
        """The connections that were made since the last transfer."""
        return [end for end in self.connections if self._made_in[str(end)] == self.history.transfers]

    def wait_progress(self, count: int = 2, what: str | None = "chunk", seconds: float = 20) -> None:
        """Wait for connections from before a transfer to end; make new ones, wait for their progress."""
        if not self.open():
            self._wait_ended(seconds)
            self._open_all(seconds)
        super().wait_progress(count, what, seconds)

    def _wait_ended(self, seconds: float) -> None:
        """Both ends of each connection learn that it has ended."""

        def lasting() -> list[str]:
            # A guest that its peer resets sees the stream's end, one that its device tells an error.
            told = {op.who for what in ("broken", "end") for op in self.operations(what)}
            here = [f"{end} at the host" for end in self.connections if not end.error]
            return here + [f"{end} in the guest" for end in self.connections if str(end) not in told]

        self._wait(f"old connections to end {tag('release', 'resume')}", lasting, seconds)

    def _early(self, end: Operation) -> bool:
        return end.transfer == self._made_in[end.who]

    def _faults(self, end: Connection) -> list[Problem]:
        if end.broken and end not in self.open():
            return []  # _wait_ended has seen it break in the transfer
        return super()._faults(end)
