# SPDX-License-Identifier: GPL-2.0-or-later
"""ICMP echo on a raw socket: there need be no ping program, and none has to be started."""

import os
import socket
import struct
import time
from collections.abc import Callable

from cprtest.limits import TimeLimit, met, stretched

_REQUEST, _REPLY = 8, 0  # RFC 792
_INTERVAL = 0.1


def ping(
    raw: socket.socket, address: str, timeout: float, vain: Callable[[], str | None] = lambda: None
) -> float:
    """Send echo requests on `raw`, ten a second, until one is answered. Returns its round trip in seconds.

    `timeout` in seconds of a fast machine. Raises TimeLimit, as soon as `vain` says why none will be.
    """
    limit = stretched(timeout)
    start = time.monotonic()
    end = start + limit
    sent: dict[int, float] = {}
    failed: OSError | None = None
    while (now := time.monotonic()) < end:
        sequence = len(sent) + 1
        sent[sequence] = now
        try:
            raw.sendto(_request(sequence), (address, 0))
        except OSError as error:  # no route yet, or nobody answers ARP yet
            failed = error
        answered = _await_reply(raw, address, min(end, now + _INTERVAL))
        if answered in sent:
            met(timeout, start)
            return time.monotonic() - sent[answered]
        if sequence % 10 == 0 and (why := vain()):
            raise TimeLimit(f"waited in vain for {address} to answer one of {len(sent)} pings: {why}")
    instead = f"the last could not be sent: {failed}" if failed else "nothing came back"
    raise TimeLimit(f"waited {limit:.1f} s for {address} to answer one of {len(sent)} pings; {instead}")


def _request(sequence: int) -> bytes:
    head = struct.pack("!BBHHH", _REQUEST, 0, 0, os.getpid() & 0xFFFF, sequence)
    return struct.pack("!BBHHH", _REQUEST, 0, _checksum(head), os.getpid() & 0xFFFF, sequence)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _await_reply(raw: socket.socket, address: str, end: float) -> int | None:
    """The sequence number of the next echo reply to this process from `address`, or None at time `end`."""
    while (left := end - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            packet, (source, _) = raw.recvfrom(2048)
        except TimeoutError:
            return None
        kind, _, _, ident, sequence = struct.unpack_from("!BBHHH", packet, (packet[0] & 0xF) * 4)
        if source == address and kind == _REPLY and ident == os.getpid() & 0xFFFF:
            return int(sequence)
    return None
