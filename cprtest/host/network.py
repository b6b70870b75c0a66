# SPDX-License-Identifier: GPL-2.0-or-later
"""The network of one test: taps, bridges and lab NICs in a namespace that the test made itself.

Nothing here touches an interface of the host, but for NICs that the host file lists as wires
(see hostfile.py); those come back when the network is closed. When the whole test is killed,
the kernel destroys the namespace with its last process, and hands wires back.
"""

import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cprtest.errors import CprError
from cprtest.host import hostfile
from cprtest.host.namespace import Namespace
from cprtest.host.ping import ping
from cprtest.host.programs import program
from cprtest.limits import TimeLimit, stretched

_COMMAND_LIMIT = 10.0


@dataclass(frozen=True)
class Tap:
    """A persistent tap inside the test's namespace; QEMU opens it by `name`."""

    name: str
    queues: int
    address: str | None


class Network:
    """A network namespace with what one test needs in it.

    Use it as a context manager, or `close()` it. Raises CprError where none can be made.
    """

    def __init__(self) -> None:
        self.namespace = Namespace()
        self._adopted: list[str] = []
        # Done with the first change or use: in an emulated lab starting `ip` takes longer than its work.
        self._pending = ["link set dev lo up"]

    def tap(
        self,
        name: str = "tap0",
        queues: int = 1,
        vnet_hdr: bool = True,
        address: str | None = None,
        bridge: str | None = None,
    ) -> Tap:
        """Make a tap and bring it up.

        `address`: our own end, as "10.99.1.1/24"; `bridge`: make it a port of that bridge instead.
        With more than one queue it is multi_queue, and then every opener has to ask for multi-queue
        (IFF_MULTI_QUEUE, Documentation/networking/tuntap.rst). The host's checksum and segmentation
        offloads need `vnet_hdr`.
        """
        flags = ("multi_queue " if queues > 1 else "") + ("vnet_hdr" if vnet_hdr else "")
        self._ip(f"tuntap add dev {name} mode tap {flags}", *self._bring_up(name, address, bridge))
        return Tap(name, queues, address)

    def bridge(self, name: str = "br0", address: str | None = None) -> str:
        """Make a bridge that forwards at once (no spanning tree, no delay). Returns its name."""
        self._ip(
            f"link add name {name} type bridge stp_state 0 forward_delay 0",
            *self._bring_up(name, address, None),
        )
        return name

    def adopt(self, ifname: str, address: str | None = None, bridge: str | None = None) -> None:
        """Take the lab NIC `ifname` into this network until it is closed.

        Raises CprError unless the host file lists it as the wire of an assignable device.
        """
        if ifname not in hostfile.wires():
            raise CprError(
                f"The interface {ifname} stays where it is: it is not listed as a wire in the host file "
                f"({hostfile.VARIABLE}={os.environ.get(hostfile.VARIABLE, '')})."
            )
        _run_ip(None, f"link set dev {ifname} netns {self.namespace.path}")
        self._adopted.append(ifname)
        self._ip(*self._bring_up(ifname, address, bridge))

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, prefixed so that it runs inside; environment, directory and passed descriptors are kept."""
        self._settle()
        return self.namespace.command(argv)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """subprocess.Popen inside; as root without the nsenter that `command` has to put in front."""
        self._settle()
        return self.namespace.popen(argv, **options)

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return what it said. Raises CprError when it fails."""
        return _finish(self.popen(argv, **_TEXT, **options), argv)

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives inside, for use by this process."""
        self._settle()
        return self.namespace.open_socket(family, kind, protocol)

    def connect(self, address: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection from inside to `address`; `timeout` in seconds of a fast machine.

        Raises TimeLimit, or OSError when the other side refuses.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = self.open_socket(family, socket.SOCK_STREAM)
        limit = stretched(timeout)
        made.settimeout(limit)
        try:
            made.connect((address, port))
        except TimeoutError as error:
            made.close()
            raise TimeLimit(
                f"waited {limit:.0f} s for {address} port {port} to accept; it was silent"
            ) from error
        except OSError as error:
            made.close()
            raise OSError(error.errno, f"connecting to {address} port {port}: {error.strerror}") from error
        return made

    def ping(
        self, address: str, timeout: float = 5.0, vain: Callable[[], str | None] = lambda: None
    ) -> float:
        """Send ICMP echo requests, ten a second, until one is answered. Returns its round trip in seconds.

        `timeout` in seconds of a fast machine. Raises TimeLimit, as soon as `vain` says why none will be.
        """
        with self.open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            return ping(raw, address, timeout, vain)

    def close(self) -> None:
        """Give wires back and let go of the namespace. Safe to call twice."""
        for name in self._adopted:
            self._ip(f"link set dev {name} netns {os.getpid()}")
        self._adopted.clear()
        self.namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ip(self, *lines: str) -> None:
        _run_ip(self.namespace, *self._pending, *lines)
        self._pending = []

    def _settle(self) -> None:
        if self._pending:
            self._ip()

    @staticmethod
    def _bring_up(name: str, address: str | None, bridge: str | None) -> list[str]:
        # No IPv6 link-local address: its neighbour discovery would put packets nobody asked for on the wire.
        lines = [f"link set dev {name} addrgenmode none"]
        if address is not None:
            lines.append(f"addr add {address} dev {name}")
        if bridge is not None:
            lines.append(f"link set dev {name} master {bridge}")
        return [*lines, f"link set dev {name} up"]


_TEXT: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def _run_ip(namespace: Namespace | None, *lines: str) -> None:
    """Have one `ip` do all `lines`."""
    argv = [program("ip"), "-batch", "-"]
    popen = subprocess.Popen if namespace is None else namespace.popen
    _finish(popen(argv, stdin=subprocess.PIPE, **_TEXT), argv, "\n".join(lines) + "\n")


def _finish(
    process: subprocess.Popen[str], argv: Sequence[str], given: str | None = None
) -> subprocess.CompletedProcess[str]:
    with process:
        try:
            out, err = process.communicate(given, timeout=stretched(_COMMAND_LIMIT))
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise TimeLimit(f"waited {error.timeout:.0f} s for `{' '.join(argv)}` to end") from error
    if process.returncode != 0:
        done = f" given {given!r}" if given else ""
        raise CprError(
            f"`{' '.join(argv)}`{done} failed ({process.returncode}): {err.strip() or out.strip()}"
        )
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)
