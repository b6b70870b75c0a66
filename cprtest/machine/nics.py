# SPDX-License-Identifier: GPL-2.0-or-later
"""NICs that do not open a tap by name: given descriptors, a helper, a macvtap, passt by vhost-user, vDPA."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from cprtest.errors import CprError
from cprtest.host import hostfile
from cprtest.host.network import Network
from cprtest.machine.devices import GUEST_ADDRESS, HOST_ADDRESS, MAC, Nic, Tap, option
from cprtest.machine.plugged import PluggedVirtio
from cprtest.machine.ports import root_port


@dataclass(frozen=True, kw_only=True)
class OpenedTap(Tap):
    """A virtio-net NIC on a tap that we open, and vhost with it, as libvirt does: fd= and vhostfd=.

    fds, vhostfds: one descriptor for each queue, as QEMU is told of them. The target is told of the same
    numbers, and inherits none: with cpr it must not look at them. Only for root.
    """

    fds: tuple[int, ...] = ()
    vhostfds: tuple[int, ...] = ()
    inherited: tuple[int, ...] = ()

    @property
    def node(self) -> str:
        return ""

    def on_host(self, network: Network) -> Self:
        if self.fds:
            return replace(self, inherited=())
        super().on_host(network)
        fds, servers = network.open_queues(self.ifname, self.netdev_queues, vhost=self.vhost)
        return replace(self, fds=tuple(fds), vhostfds=tuple(servers), inherited=(*fds, *servers))

    def _opened(self) -> dict[str, Any]:
        several = "s" if len(self.fds) > 1 else ""
        named = {f"fd{several}": self.fds, f"vhostfd{several}": self.vhostfds}
        return {name: ":".join(map(str, numbers)) for name, numbers in named.items() if numbers}


@dataclass(frozen=True, kw_only=True)
class HelpedTap(Tap):
    """A virtio-net NIC on a tap that QEMU is given by a program: helper=. It has one queue.

    helper: the program (cprtest.host.tap_open.BridgeHelper). The tap is a port of a bridge.
    """

    helper: Path

    def on_host(self, network: Network) -> Self:
        network.bridge(self._bridge, address=f"{HOST_ADDRESS.format(self.index)}/24")
        return self

    def _opened(self) -> dict[str, Any]:
        return {"helper": str(self.helper), "br": self._bridge}

    @property
    def node(self) -> str:
        return ""

    @property
    def _bridge(self) -> str:
        return f"br{self.index}"


@dataclass(frozen=True, kw_only=True)
class PluggedTap(Tap, PluggedVirtio):
    """A virtio-net NIC on a tap, to be plugged into the running guest, and unplugged again."""

    def frontend(self) -> dict[str, Any]:
        return {**super().frontend(), "bus": root_port(self.slot)}


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
        return ""

    @property
    def inherited(self) -> tuple[int, ...]:
        return self.fds

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
