# SPDX-License-Identifier: GPL-2.0-or-later
"""How a tap is set, asked of the kernel through the descriptors that a QEMU holds.

The descriptors are copied from the process (pidfd_getfd(2)), so QEMU is neither stopped nor asked. Offloads
and flags of the interface are asked for in the network namespace that it is in.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cprtest.host import procfs
from cprtest.host.network import Network
from cprtest.host.programs import program
from cprtest.host.tap_open import IFREQ

_PIDFD_GETFD = 438  # the same number on every architecture
_TUNGETIFF, _TUNGETVNETHDRSZ, _TUNGETSNDBUF = 0x800454D2, 0x800454D7, 0x800454D3  # linux/if_tun.h
_SIOCGIFFLAGS, _SIOCETHTOOL = 0x8913, 0x8946  # linux/sockios.h
_ETHTOOL_GFEATURES = 0x3A  # linux/ethtool.h
_FEATURE_BLOCKS = 4
DETACHED = 0x0400  # IFF_DETACH_QUEUE of linux/if_tun.h


def queues(pid: int) -> list[dict[str, Any]]:
    """The settings of each queue of a tap that process `pid` holds: by what it is opened and what it does.

    interface, flags (IFF_*; DETACHED: switched off), header (size of virtio_net_hdr, bytes), send_buffer
    (bytes), nonblocking. A descriptor of /dev/net/tun that is no queue has no interface. Raises OSError.
    """
    found = []
    for fd in _tap_descriptors(pid):
        with _copied(pid, fd) as copy:
            found.append({**_interface(copy), "nonblocking": not os.get_blocking(copy)})
    return sorted(found, key=str)


def interface(network: Network, name: str) -> dict[str, Any]:
    """Flags (IFF_UP ...) and active features (offloads, as words of bits) of an interface. Raises OSError."""
    with network.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        (flags,) = struct.unpack_from(
            "H", fcntl.ioctl(control, _SIOCGIFFLAGS, IFREQ.pack(name.encode(), 0)), 16
        )
        # struct ethtool_gfeatures: command, number of blocks; each: available, requested, active, fixed.
        answer = ctypes.create_string_buffer(8 + 16 * _FEATURE_BLOCKS)
        struct.pack_into("II", answer, 0, _ETHTOOL_GFEATURES, _FEATURE_BLOCKS)
        fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(answer)))
        (_, blocks) = struct.unpack_from("II", answer, 0)
        active = [struct.unpack_from("IIII", answer, 8 + 16 * block)[2] for block in range(blocks)]
    return {"flags": flags, "features": active}


def packets_read(network: Network, name: str) -> int:
    """How many packets have been read from the tap `name` since it was made, whoever read them."""
    said = network.run([program("ip"), "-stats", "-json", "link", "show", "dev", name]).stdout
    return int(json.loads(said)[0]["stats64"]["tx"]["packets"])


def _interface(descriptor: int) -> dict[str, Any]:
    try:
        name, flags = IFREQ.unpack(fcntl.ioctl(descriptor, _TUNGETIFF, bytes(IFREQ.size)))
    except OSError:  # EBADFD: it is attached to no interface, or that was deleted
        return {"interface": None}
    header, buffer = (
        struct.unpack("i", fcntl.ioctl(descriptor, request, bytes(4)))[0]
        for request in (_TUNGETVNETHDRSZ, _TUNGETSNDBUF)
    )
    return {
        "interface": name.rstrip(b"\0").decode(),
        "flags": flags,
        "header": header,
        "send_buffer": buffer,
    }


def _tap_descriptors(pid: int) -> list[int]:
    return sorted(number for number, target in procfs.files(pid).items() if target == "/dev/net/tun")


@contextmanager
def _copied(pid: int, descriptor: int) -> Iterator[int]:
    """A copy of a descriptor of process `pid`. Raises OSError."""
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        copy = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
        if copy < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"descriptor {descriptor} of process {pid}")
    finally:
        os.close(process)
    try:
        yield copy
    finally:
        os.close(copy)
