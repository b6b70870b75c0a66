# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows of numbered UDP packets both ways: none lost but in the pause, none twice, changed or overtaken.

Both ends of a flow are one program (assets/guest/udp-packets.c), in the guest and in the test's network; both
report to the history. The ends hold back when the other side is silent, so that a tap never overflows: a
packet that is lost was lost by somebody.
"""

import contextlib
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.limits import TimeLimit, wait_until
from cprtest.machine.devices import GUEST_ADDRESS, HOST_ADDRESS, MAC, Tap
from cprtest.paths import ASSETS
from cprtest.provision.programs import compiled
from cprtest.workloads.arrivals import Way
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.workload import Workload

Address = tuple[str, int]

PORT = 7020
"""Of the first flow, at both ends; the next has the next."""
_HOST = "udp.host"
_HEADERS = 28  # IPv4 and UDP
_ETHERNET = 1500
_VLAN_ADDRESS = "10.98.{}.{}"
_WRONG = ("bad", "size", "broken")
_WITH_HISTORY = 'exec "$@" 4>>"$0"'


@dataclass(frozen=True)
class Flow:
    """Numbered packets both ways.

    size: bytes of a packet, a multiple of 8. burst: packets that leave in one call, for segmentation offload
    to cut up. group: a multicast group that both ends are members of. vlan: the VLAN they go by, 0 for none.
    """

    size: int = 64
    burst: int = 1
    group: str = ""
    vlan: int = 0

    def addresses(self, nic: int) -> tuple[str, str]:
        """The host's address and the guest's."""
        if self.vlan:
            return _VLAN_ADDRESS.format(self.vlan, 1), _VLAN_ADDRESS.format(self.vlan, 2)
        return HOST_ADDRESS.format(nic), GUEST_ADDRESS.format(nic)


SMALL, LARGE = Flow(), Flow(size=1400)
JUMBO, BURSTS = Flow(size=8800), Flow(size=1400, burst=8)
MULTICAST = Flow(size=512, group="239.99.0.1")
VLAN = Flow(size=512, vlan=5)


class UdpPackets(Workload):
    """The flows, through NIC `nic`. `pause_us`: microseconds between two calls that send.

    detour: where the host's end and the guest's end of the first flow send to instead, for somebody who
    carries packets between the two.
    """

    name = "udp"
    program = "udp-packets"
    stalls = ("stop", "resume")

    def __init__(
        self,
        guest: Guest,
        network: Network,
        flows: Sequence[Flow] = (SMALL, LARGE),
        *,
        nic: int = 0,
        pause_us: int = 5000,
        detour: tuple[Address, Address] | None = None,
    ) -> None:
        super().__init__(guest, len(flows))
        self._network = network
        self._nic = nic
        self.flows = flows
        self._prepare()
        self._host: list[subprocess.Popen[Any]] = []
        for index, flow in enumerate(flows):
            port = PORT + index
            host, other = flow.addresses(nic)
            to_guest, to_host = (flow.group or other, port), (flow.group or host, port)
            if detour and index == 0:
                to_guest, to_host = detour
            self.start(self._command("guest", index, (other, port), to_host, pause_us))
            words = self._command("host", index, (host, port), to_guest, pause_us).split()
            words[0] = str(compiled(ASSETS / "guest" / f"{self.program}.c"))
            self._host.append(network.start(["sh", "-c", _WITH_HISTORY, str(self.history.path), *words]))

    def _command(self, side: str, index: int, own: Address, peer: Address, pause_us: int) -> str:
        flow = self.flows[index]
        addresses = f"{own[0]} {own[1]} {peer[0]} {peer[1]}"
        return f"{self.program} {side} {index} {addresses} {flow.size} {flow.burst} {pause_us}"

    def _prepare(self) -> None:
        """Interfaces that take the largest packet, and those of the VLANs."""
        tap, mac = Tap(index=self._nic).ifname, MAC.format(self._nic)
        inside = self.guest.run(f"cd /sys/class/net && grep -l {mac} */address").split("/")[0]
        largest = max(flow.size for flow in self.flows) + _HEADERS
        if largest > _ETHERNET:
            self._network.mtu(tap, largest)
            self.guest.run(f"ip link set {inside} mtu {largest}")
        for flow in self.flows:
            if flow.vlan:
                host, other = flow.addresses(self._nic)
                self._network.vlan(tap, flow.vlan, f"{host}/24")
                made = f"{inside}.{flow.vlan}"
                self.guest.run(
                    f"ip link add link {inside} name {made} type vlan id {flow.vlan} && "
                    f"ip address add {other}/24 dev {made} && ip link set {made} up"
                )

    def operations(self, what: str | None = None) -> list[Operation]:
        """What both ends of the flows have reported so far; only operations called `what`, if given."""
        both = (op for name in (self.name, _HOST) for op in self.history.operations(name))
        return [op for op in both if what in (None, op.what)]

    def _names(self) -> list[str]:
        return [*super()._names(), *(f"{_HOST}.{index}" for index in range(self.reporters))]

    def wait_progress(self, count: int = 3, what: str | None = "heard", seconds: float = 20) -> None:
        """Wait until both ends of every flow have heard `count` runs of packets more."""
        super().wait_progress(count, what, seconds)

    def stop(self) -> None:
        """Send no more, let what is under way arrive, and end both sides. Safe to call twice."""
        if self._ended:
            return
        self._ended = True
        everybody = dict.fromkeys(self._names(), 1)
        self._end_both()
        self._wait("the last packets to leave", lambda: self._short_of(everybody, "last"))
        with contextlib.suppress(TimeLimit):  # the checker tells what is missing
            wait_until("the last packets to arrive", self._arrived, 3)
        self._end_both()
        self._wait("the end", lambda: self._short_of(everybody, "end"))

    def _end_both(self) -> None:
        self.guest.run(f"killall -TERM {self.program}")
        for program in self._host:
            program.send_signal(signal.SIGTERM)

    def _arrived(self) -> bool:
        """Whether the last packet of each direction has been heard."""
        last = {op.who: int(op.result[1]) - 1 for op in self.operations("last")}
        heard = {op.who: int(op.result[1]) + int(op.result[2]) - 1 for op in self.operations("heard")}
        return all(heard.get(_other(who)) == number for who, number in last.items())

    @property
    def excused(self) -> int:
        """How many packets were lost in the pauses."""
        return sum(way.excused for way in self._ways())

    def judge(self) -> list[Problem]:
        """Packets that were lost, came twice, were overtaken or changed; flows that broke."""
        wrong = [Problem(f"{op.place}: {_said(op)}") for op in self.operations() if op.what in _WRONG]
        told = self.history.problems(_HOST)
        return [*told, *wrong, *(problem for way in self._ways() for problem in way.problems())]

    def _ways(self) -> list[Way]:
        by_who: dict[str, list[Operation]] = {name: [] for name in self._names()}
        for op in self.operations():
            by_who[op.who].append(op)
        complete = len(self.operations("last")) == len(by_who)
        return [
            Way(
                f"{who} from the {'host' if who.startswith(_HOST) else 'guest'}",
                [op for op in said if op.what == "sent"],
                [op for op in by_who[_other(who)] if op.what == "heard"],
                # What a stopped guest sends is nothing: of its packets none may be missing.
                self.history.pauses if who.startswith(_HOST) else (),
                frozenset(int(op.result[1]) for op in by_who[_other(who)] if op.what in ("bad", "size")),
                complete,
            )
            for who, said in by_who.items()
        ]


def _other(who: str) -> str:
    """The other end of a flow."""
    name, _, index = who.rpartition(".")
    return f"{UdpPackets.name if name == _HOST else _HOST}.{index}"


def _said(operation: Operation) -> str:
    if operation.what == "broken":
        return f"packets can not be sent: {' '.join(operation.result[1:])}"
    number, *rest = (int(word) for word in operation.result[1:])
    if operation.what == "size":
        return f"packet {number} has {rest[0]} bytes"
    at, wanted, seen = rest
    return f"packet {number} was changed: at byte {at} it has word {seen} instead of {wanted}"
