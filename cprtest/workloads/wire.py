# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes over a tap: every frame to and from the guest, copied by the kernel, outside of every QEMU.

A TCP stream that arrives whole says nothing of frames that were sent twice, or by a QEMU that has to be
silent: the receiver throws them away. Here they are seen. Source: packet(7), SO_TIMESTAMPNS in socket(7).
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass

from cprtest.errors import CprError
from cprtest.host.network import Network
from cprtest.limits import TimeLimit, stretched, wait_until
from cprtest.machine.devices import GUEST_ADDRESS, MAC, Tap
from cprtest.timeline.clock import read_offset
from cprtest.timeline.timeline import tag

_ETH_P_ALL, _IPV4 = 3, 0x0800
_REQUEST, _REPLY = 8, 0  # RFC 792
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_TIMESTAMPNS = 35
_SILENCE = 0.2
"""Seconds (stretched) of pings, ten a second: a guest that runs answers the first."""
_LARGEST = 80 * 1024  # what is segmented later may be 64 KiB


@dataclass(frozen=True)
class Frame:
    """One frame. t: ns, monotonic, by the kernel. from_guest: the guest sent it, else the host."""

    t: int
    from_guest: bool
    data: bytes

    @property
    def number(self) -> int:
        """The number of a packet of a TCP connection; sent again it has a new one. 0 for all other frames."""
        kind, number, protocol = struct.unpack_from("!12xH4xH3xB", self.data.ljust(24, b"\0"))
        return int(number) if (kind, protocol) == (_IPV4, socket.IPPROTO_TCP) else 0

    def ping(self, kind: int) -> bytes:
        """Identifier and sequence number of a ping, `kind` 8, or of its answer, 0; else empty (RFC 792)."""
        ip, protocol, icmp = struct.unpack_from("!12xH9xB10xB", self.data.ljust(42, b"\0"))
        return self.data[38:42] if (ip, protocol, icmp) == (_IPV4, socket.IPPROTO_ICMP, kind) else b""


class Wire:
    """Listens on the tap of `nic`, in a thread of its own, until `close`."""

    def __init__(self, network: Network, nic: Tap) -> None:
        self._network = network
        self._nic = nic
        self._mac = bytes.fromhex(MAC.format(nic.index).replace(":", ""))
        self._offset = read_offset()
        self.frames: list[Frame] = []
        self._unanswered: set[bytes] = set()
        self._socket = network.open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.settimeout(0.1)
        self._socket.bind((nic.ifname, _ETH_P_ALL))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="wire", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_LARGEST, 64)
            except TimeoutError:
                continue
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            t = seconds * 10**9 + nanoseconds - self._offset.value
            self.frames.append(Frame(t, data[6:12] == self._mac, data))

    def assert_silent(self, phase: str) -> None:
        """Pings are not answered, and nobody sends anything else for the guest meanwhile. `phase` is blamed.

        Raises AssertionError saying what was sent.
        """
        begin = time.monotonic_ns() + self._offset.err
        with contextlib.suppress(TimeLimit):
            self._network.ping(GUEST_ADDRESS.format(self._nic.index), _SILENCE)
        end = time.monotonic_ns() - self._offset.err
        self._catch_up(end)
        meanwhile = [f for f in self._since(begin) if f.t <= end]
        self._unanswered = {f.ping(_REQUEST) for f in meanwhile if not f.from_guest} - {b""}
        if not self._unanswered:
            raise CprError("no ping was seen on the wire: that nothing was sent for the guest proves nothing")
        sent = [f for f in meanwhile if f.from_guest]
        if sent:
            first = f"the first after {(sent[0].t - begin) / 1e6:.1f} ms"
            raise AssertionError(
                f"{len(sent)} frames went over the wire for a guest that is paused, {first} {tag(phase)}"
            )

    def assert_answered(self, phase: str) -> None:
        """The pings of `assert_silent` waited in the tap; each is answered once. Raises AssertionError."""

        def answers() -> Counter[bytes]:
            return Counter(f.ping(_REPLY) for f in tuple(self.frames) if f.from_guest)

        with contextlib.suppress(TimeLimit):
            wait_until("the pings to be answered", lambda: self._unanswered <= set(answers()), 2)
        seen = answers()
        wrong = [seen[ping] for ping in self._unanswered if seen[ping] != 1]
        if wrong:
            raise AssertionError(
                f"of {len(self._unanswered)} packets that came in the pause {wrong.count(0)} were lost and "
                f"{len(wrong) - wrong.count(0)} answered more than once {tag(phase)}"
            )

    def assert_nothing_twice(self, *phases: str) -> None:
        """No packet of the guest went over the wire twice. `phases` are blamed if one did."""
        self._catch_up(time.monotonic_ns())
        count = Counter(f.data for f in tuple(self.frames) if f.from_guest and f.number)
        if not count:
            raise AssertionError(f"no packet of the guest was seen on the wire {tag(*phases)}")
        doubled = [f for f in tuple(self.frames) if count[f.data] > 1]
        if doubled:
            times = ", ".join(f"{(f.t - self.frames[0].t) / 1e6:.1f} ms" for f in doubled[:6])
            packets = len({f.data for f in doubled})
            raise AssertionError(
                f"{packets} packets of the guest were sent more than once, at {times} {tag(*phases)}"
            )

    def _since(self, t: int) -> list[Frame]:
        return [f for f in tuple(self.frames) if f.t >= t]

    def _catch_up(self, t: int) -> None:
        """Wait until all that was on the wire by `t` has been read."""
        wait_until("the frames to be read", lambda: self._idle() or self._since(t), 10)

    def _idle(self) -> bool:
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        """Stop listening. Raises CprError if the kernel had to drop frames: then nothing is proved."""
        self._closing.set()
        self._thread.join(stretched(5))
        dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        self._socket.close()
        if dropped:
            raise CprError(f"{dropped} frames were not seen: this machine was too busy to read them")
