# SPDX-License-Identifier: GPL-2.0-or-later
"""NICs whose other end is no ordinary tap: a macvtap, passt by vhost-user, a vDPA device."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from cprtest.errors import CprError
from cprtest.host import hostfile
from cprtest.host.network import Network
from cprtest.machine.devices import GUEST_ADDRESS, HOST_ADDRESS, MAC, Nic, Tap, option


@dataclass(frozen=True, kw_only=True)
class Macvtap(Tap):
    """A virtio-net NIC on a macvtap: its queues are opened by us, and QEMU inherits them.

    fds: one descriptor for each queue. The target needs none: with cpr they travel, and a QEMU without it is
    no use here, since both sides would read from one queue.
    """

    fds: tuple[int, ...] = ()

    @property
    def ifname(self) -> str:
        return f"macvtap{self.index}"

    @property
    def node(self) -> str:
        return f"/dev/{self.ifname}"

    def on_host(self, network: Network) -> Self:
        address = f"{HOST_ADDRESS.format(self.index)}/24"
        fds = network.macvtap(self.ifname, MAC.format(self.index), self.queues, address)
        return replace(self, fds=tuple(fds))

    def _opened(self) -> dict[str, Any]:
        return {"fds": ":".join(map(str, self.fds))}


@dataclass(frozen=True, kw_only=True)
class Passt(Nic):
    """A virtio-net NIC served by passt over vhost-user, in a process of its own for each QEMU.

    passt serves one QEMU and ends with it, and so do connections through it; what it knows of the device
    reaches the target's passt with the device's state. socket: where it listens. forwards: the port of ours
    that leads to the guest's `PORT`.
    """

    socket: Path = Path()
    forwards: int = 0

    lasting = False
    PORT = 7007

    def on_host(self, network: Network) -> Self:
        gateway, guest = HOST_ADDRESS.format(self.index), GUEST_ADDRESS.format(self.index)
        socket, forwards = network.passt(f"up{self.index}", gateway, guest, self.PORT)
        return replace(self, socket=socket, forwards=forwards)

    def backend(self) -> list[str]:
        netdev = {"type": "vhost-user", "id": self.netdev, "chardev": f"{self.id}-socket"}
        return ["-chardev", f"socket,id={self.id}-socket,path={self.socket}", *option("-netdev", netdev)]

    def reached(self, port: int) -> tuple[str, int]:
        if port != self.PORT:
            raise CprError(f"passt leads to port {self.PORT} of the guest only, not to {port}.")
        return "127.0.0.1", self.forwards


@dataclass(frozen=True, kw_only=True)
class Vdpa(Nic):
    """A virtio-net NIC that is a vDPA device of the host. node: its file, listed in the host file."""

    node: Path = Path()

    def on_host(self, network: Network) -> Self:  # noqa: ARG002
        return replace(self, node=hostfile.current().vdpa[self.index])

    def backend(self) -> list[str]:
        return option("-netdev", {"type": "vhost-vdpa", "id": self.netdev, "vhostdev": str(self.node)})
