# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening taps in QEMU's place, and the programs that QEMU runs when it opens a tap or gives it up."""

import fcntl
import os
import struct
import sys
from pathlib import Path

_TUNSETIFF = 0x400454CA  # linux/if_tun.h, as the flags
_IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x2, 0x1000, 0x100, 0x4000
IFREQ = struct.Struct("16sH22x")  # struct ifreq of linux/if.h: name and flags


def open_queue(name: str, queues: int) -> int:
    """A descriptor of one more queue of tap `name`, which has `queues`; in this thread's network namespace.

    Raises OSError.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
        fcntl.ioctl(descriptor, _TUNSETIFF, IFREQ.pack(name.encode(), flags))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class _Noting:
    """A program in `directory` that notes which QEMUs ran it. text: what it is, {notes} being where."""

    def __init__(self, directory: Path, name: str, text: str) -> None:
        self.program = directory / name
        self._notes = directory / f"{name}.notes"
        self.program.write_text(text.format(python=sys.executable, notes=self._notes))
        self.program.chmod(0o755)

    def ran_by(self) -> list[int]:
        """Process ids of the QEMUs that ran it, in order."""
        return [int(pid) for pid in self._notes.read_text().split()] if self._notes.exists() else []


class DownScript(_Noting):
    """A program for `Tap.down_script`, which does nothing else."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "down-script", '#!/bin/sh\necho "$PPID" >>"{notes}"\n')


class BridgeHelper(_Noting):
    """A program for `-netdev tap,helper=`: makes a tap, and hands it to the QEMU that asked.

    It does what qemu-bridge-helper does (qemu-bridge-helper.c), whose list of permitted bridges is a file of
    the host: a tap of the next free name, a port of the bridge, gone when nobody has it open any more.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "bridge-helper", _HELPER)


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
with open("{{notes}}", "a") as notes:
    notes.write(f"{{{{os.getppid()}}}}\\n")
socket.send_fds(socket.socket(fileno=int(said["fd"])), [b"t"], [tap])
"""
