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
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cprtest.errors import CprError
from cprtest.host import hostfile
from cprtest.host.namespace import Namespace
from cprtest.host.ping import ping
from cprtest.host.programs import program
from cprtest.host.runs import Run
from cprtest.host.tap_open import open_queue
from cprtest.limits import TimeLimit, stretched, wait_until
from cprtest.provision import installed

_COMMAND_LIMIT = 10.0
_FIRST_FORWARDED = 7100


class Network:
    """A network namespace with what one test needs in it.

    Use it as a context manager, or `close()` it. Raises CprError where none can be made.
    """

    def __init__(self) -> None:
        self.namespace = Namespace()
        self._adopted: list[str] = []
        self._made: dict[str, list[int]] = {}  # interfaces, and the descriptors that we opened for them
        self._programs: list[subprocess.Popen[Any]] = []
        self._forwarded = _FIRST_FORWARDED
        # Done with the first change or use: in an emulated lab starting `ip` takes longer than its work.
        self._pending = ["link set dev lo up"]

    def tap(
        self,
        name: str = "tap0",
        queues: int = 1,
        vnet_hdr: bool = True,
        address: str | None = None,
        bridge: str | None = None,
    ) -> None:
        """Make a persistent tap that QEMU opens by `name`, and bring it up. One that is there stays.

        `address`: our own end, as "10.99.1.1/24"; `bridge`: make it a port of that bridge instead.
        With more than one queue it is multi_queue, and then every opener has to ask for multi-queue
        (IFF_MULTI_QUEUE, Documentation/networking/tuntap.rst). The host's checksum and segmentation
        offloads need `vnet_hdr`.
        """
        if name in self._made:
            return
        flags = ("multi_queue " if queues > 1 else "") + ("vnet_hdr" if vnet_hdr else "")
        self._ip(f"tuntap add dev {name} mode tap {flags}", *self._bring_up(name, address, bridge))
        self._made[name] = []

    def open_queues(self, name: str, queues: int, *, vhost: bool) -> tuple[list[int], list[int]]:
        """Open the queues of tap `name` for a QEMU: descriptors of the tap, and of vhost if it serves them.

        They are ours until the next QEMU needs its own, or this is closed. Root only.
        """
        ours = self._made[name]
        while ours:
            os.close(ours.pop())
        for _ in range(queues):
            ours.append(self.namespace.inside(lambda: open_queue(name, queues)))
        for _ in range(queues if vhost else 0):
            ours.append(os.open("/dev/vhost-net", os.O_RDWR))
        return ours[:queues], ours[queues:]

    def macvtap(self, name: str, mac: str, queues: int, address: str) -> list[int]:
        """Make a macvtap on one end of a cable (veth); a descriptor for each of its queues, ours to the end.

        `mac`: its and the guest's; `address`: that of the cable's other end, which is ours. Each opening of
        its file is a queue (drivers/net/tap.c). That file is named after the interface's number, in a /dev
        that all network namespaces share: so the number is made from this process's.
        """
        if name not in self._made:
            cable, number = f"{name}-far", (os.getpid() << 4) + len(self._made)
            self._ip(
                f"link add name {cable} type veth peer name {name}-near",
                f"link add link {name}-near name {name} index {number} address {mac}"
                " type macvtap mode bridge",
                *self._bring_up(f"{name}-near", None, None),
                *self._bring_up(name, None, None),
                *self._bring_up(cable, address, None),
            )
            file = f"/dev/tap{number}"
            self._made[name] = [os.open(file, os.O_RDWR | os.O_NONBLOCK) for _ in range(queues)]
        return self._made[name]

    def passt(self, name: str, gateway: str, guest: str, port: int) -> tuple[Path, int]:
        """Start passt in vhost-user mode: its socket, and the port of ours that leads to the guest's `port`.

        gateway, guest: addresses of both ends of a /24. passt takes what else it needs from an interface with
        a default route: a tap `name` that nobody opens. It ends with its client, or when this is closed.
        """
        if name not in self._made:
            self.tap(name, address=f"{gateway}/24")
            self._ip(f"route replace default via {guest} dev {name}")
        forwards, self._forwarded = self._forwarded, self._forwarded + 1
        scratch = Run.start().scratch()
        socket_path, started = scratch / "socket", scratch / "pid"
        argv = [
            *installed.passt(),
            *("--vhost-user", "--foreground", "--socket", str(socket_path), "--pid", str(started)),
            *("--ipv4-only", "--address", guest, "--netmask", "24", "--gateway", gateway),
            *("--tcp-ports", f"{forwards}:{port}", "--udp-ports", "none"),
            # A root that is none but in its own user namespace has no other user to become.
            *([] if self.namespace.needs_user_namespace else ["--runas", "0"]),
        ]
        log = scratch / "log"
        with log.open("wb") as out:
            process = self.start(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(
            "passt to listen",
            lambda: started.exists() and started.stat().st_size > 0,
            5,
            lambda: log.read_text(errors="replace").strip(),
            vain=lambda: f"it ended with status {process.poll()}" if process.poll() is not None else None,
        )
        return socket_path, forwards

    def bridge(self, name: str = "br0", address: str | None = None) -> str:
        """Make a bridge that forwards at once (no spanning tree, no delay). Returns its name.

        One that is there stays.
        """
        if name not in self._made:
            self._ip(
                f"link add name {name} type bridge stp_state 0 forward_delay 0",
                *self._bring_up(name, address, None),
            )
            self._made[name] = []
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

    def start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """As `popen`, for a program that goes on until it ends or the network is closed."""
        self._programs.append(self.popen(argv, **options))
        return self._programs[-1]

    def mtu(self, name: str, size: int) -> None:
        """Let interface `name` carry packets of `size` bytes."""
        self._ip(f"link set dev {name} mtu {size}")

    def vlan(self, name: str, number: int, address: str) -> None:
        """Make NAME.NUMBER, the interface of VLAN `number` on `name`, and bring it up."""
        made = f"{name}.{number}"
        self._ip(
            f"link add link {name} name {made} type vlan id {number}", *self._bring_up(made, address, None)
        )

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
        """End programs, give wires back and let go of the namespace. Safe to call twice."""
        for running in self._programs:
            with running:
                running.kill()
        self._programs.clear()
        for descriptor in (fd for fds in self._made.values() for fd in fds):
            os.close(descriptor)
        self._made.clear()
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
