# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening taps in QEMU's place: as descriptors that it inherits, or by a program that it asks for one."""

import fcntl
import os
import struct
import sys
from pathlib import Path

_TUNSETIFF = 0x400454CA  # linux/if_tun.h, as the flags
_IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x2, 0x1000, 0x100, 0x4000
_IFREQ = struct.Struct("16sH22x")


def open_queue(name: str, queues: int) -> int:
    """A descriptor of one more queue of tap `name`, which has `queues`; in this thread's network namespace.

    Raises OSError.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class BridgeHelper:
    """A program for `-netdev tap,helper=`: makes a tap, and hands it to the QEMU that asked.

    It does what qemu-bridge-helper does (qemu-bridge-helper.c), whose list of permitted bridges is a file of
    the host: a tap of the next free name, a port of the bridge, gone when nobody has it open any more. Notes
    which QEMUs asked. Lies in `directory`.
    """

    def __init__(self, directory: Path) -> None:
        self.program = directory / "bridge-helper"
        self._notes = directory / "bridge-helper.notes"
        self.program.write_text(_HELPER.format(python=sys.executable, notes=str(self._notes)))
        self.program.chmod(0o755)

    def asked_by(self) -> list[int]:
        """Process ids of the QEMUs that asked it for a tap, in order."""
        return [int(pid) for pid in self._notes.read_text().split()] if self._notes.exists() else []


# QEMU says --br=NAME, --fd=NUMBER of a socket, and --use-vnet.
_HELPER = f"""#!{{python}} -IS
import fcntl, os, socket, struct, sys

said = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
tap = os.open("/dev/net/tun", os.O_RDWR)
flags = {_IFF_TAP | _IFF_NO_PI} | ({_IFF_VNET_HDR} if "use-vnet" in said else 0)
name = fcntl.ioctl(tap, {_TUNSETIFF}, struct.pack("16sH22x", b"tap%d", flags))[:16]
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
add = struct.pack("16si20x", said["br"].encode(), socket.if_nametoindex(name.rstrip(b"\\0").decode()))
fcntl.ioctl(control, 0x89A2, add)  # SIOCBRADDIF
fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", name, 0x1043))  # SIOCSIFFLAGS: up, running, multicast
with open({{notes!r}}, "a") as notes:
    notes.write(f"{{{{os.getppid()}}}}\\n")
socket.send_fds(socket.socket(fileno=int(said["fd"])), [b"t"], [tap])
"""
