# SPDX-License-Identifier: GPL-2.0-or-later
"""The system calls that the gate traps: their names, the filter that finds them, what their arguments say.

Structures are those of linux/vhost_types.h, linux/vfio.h, linux/if.h and, for the filter, linux/filter.h
and linux/seccomp.h; x86-64.
"""

import array
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cprtest.observe import ioctls

IOCTL, SENDMSG, FCNTL = 16, 46, 72
SCM_RIGHTS = "SCM_RIGHTS"
SENDMSG_COMMAND = 0xFFFFFFFF
"""Stands for sendmsg with descriptors where an ioctl has its command."""
SET_FLAGS, SET_FLAGS_COMMAND = "F_SETFL", 4
"""fcntl(2): whether a descriptor blocks."""
CALIBRATE_COMMAND = 0x67617465
"""the gate's program measures with it how late its own times are."""

_NOT_GATED = ("VFIO_GROUP_GET_DEVICE_FD", "VFIO_DEVICE_SET_IRQS")
IOCTLS = {name: command for name, command in ioctls.COMMANDS.items() if name not in _NOT_GATED}
NAMES = (*IOCTLS, SCM_RIGHTS, SET_FLAGS)
_CONTAINER = "/dev/vfio/vfio"

_AUDIT_ARCH_X86_64 = 0xC000003E
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER, _ARCHITECTURE, _COMMAND = 0, 4, 24  # offsets in struct seccomp_data; the command is 32 bits wide
_TYPE = 0xFF00

_RING = (struct.Struct("II"), ("index", "num"))
_RING_EVENTFD = (struct.Struct("Ii"), ("index", "eventfd"))
_IFREQ = (struct.Struct("16sH"), ("ifname", "flags"))
_LAYOUTS: dict[str, tuple[struct.Struct, tuple[str, ...]]] = {
    "VHOST_SET_VRING_NUM": _RING,
    "VHOST_SET_VRING_BASE": _RING,
    "VHOST_SET_VRING_ADDR": (struct.Struct("I"), ("index",)),
    "VHOST_GET_VRING_BASE": (struct.Struct("I"), ("index",)),
    "VHOST_SET_VRING_KICK": _RING_EVENTFD,
    "VHOST_SET_VRING_CALL": _RING_EVENTFD,
    "VHOST_SET_VRING_ERR": _RING_EVENTFD,
    "VHOST_NET_SET_BACKEND": (struct.Struct("Ii"), ("index", "backend")),
    "VHOST_VSOCK_SET_GUEST_CID": (struct.Struct("Q"), ("cid",)),
    "VHOST_VSOCK_SET_RUNNING": (struct.Struct("i"), ("running",)),
    "TUNSETIFF": _IFREQ,
    "TUNSETQUEUE": _IFREQ,
    "TUNSETVNETHDRSZ": (struct.Struct("i"), ("size",)),
    "VFIO_IOMMU_MAP_DMA": (struct.Struct("16x2Q"), ("iova", "size")),
    "VFIO_IOMMU_UNMAP_DMA": (struct.Struct("8x2Q"), ("iova", "size")),
}
_TAP_FLAGS = {0x0100: "multi_queue", 0x0200: "attach", 0x0400: "detach", 0x4000: "vnet_hdr"}


def command_of(name: str) -> int:
    """The number by which the gate's program knows the call `name`."""
    return {SCM_RIGHTS: SENDMSG_COMMAND, SET_FLAGS: SET_FLAGS_COMMAND}.get(name) or IOCTLS[name]


def name_of(command: int, device: str) -> str:
    """The call's name; `device` is the path of its file."""
    if command == SENDMSG_COMMAND:
        return SCM_RIGHTS
    if command == SET_FLAGS_COMMAND:
        return SET_FLAGS
    return ioctls.name_of(command, container=device == _CONTAINER)


@dataclass(frozen=True)
class _Jump:
    """Go to the block `target` if the loaded word is `value`, else to the next instruction."""

    value: int
    target: str


def filter_program(descriptors: bool, flags: bool) -> bytes:
    """The seccomp filter (struct sock_filter, 8 bytes each): notify the calls above, allow all others.

    KVM_RUN passes through it millions of times: it first looks at the ioctl's type, then at the numbers of
    that type. `descriptors`: sendmsg, too. `flags`: fcntl that sets flags, too.
    """
    types = sorted({command & _TYPE for command in (*IOCTLS.values(), CALIBRATE_COMMAND)})
    code: list[_Jump | tuple[int, int] | str] = [
        (_LOAD, _ARCHITECTURE),
        _Jump(_AUDIT_ARCH_X86_64, "number"),
        (_RETURN, _ALLOW),
        "number",
        (_LOAD, _NUMBER),
        _Jump(IOCTL, "ioctl"),
        *([_Jump(SENDMSG, "notify")] if descriptors else []),
        *([_Jump(FCNTL, "flags")] if flags else []),
        (_RETURN, _ALLOW),
        "flags",
        (_LOAD, _COMMAND),
        _Jump(SET_FLAGS_COMMAND, "notify"),
        (_RETURN, _ALLOW),
        "ioctl",
        (_LOAD, _COMMAND),
        (_AND, _TYPE),
        *(_Jump(kind, f"type {kind}") for kind in types),
        (_RETURN, _ALLOW),
    ]
    for kind in types:
        wanted = {c for c in (*IOCTLS.values(), CALIBRATE_COMMAND) if c & _TYPE == kind}
        code += [f"type {kind}", (_LOAD, _COMMAND)]
        code += [_Jump(command, "notify") for command in sorted(wanted)]
        code += [(_RETURN, _ALLOW)]
    return _assembled([*code, "notify", (_RETURN, _NOTIFY)])


def _assembled(code: Sequence[_Jump | tuple[int, int] | str]) -> bytes:
    places: dict[str, int] = {}
    instructions: list[_Jump | tuple[int, int]] = []
    for part in code:
        if isinstance(part, str):
            places[part] = len(instructions)
        else:
            instructions.append(part)
    done = b""
    for here, part in enumerate(instructions):
        if isinstance(part, _Jump):
            done += struct.pack("HBBI", _EQUAL, places[part.target] - here - 1, 0, part.value)
        else:
            done += struct.pack("HBBI", part[0], 0, 0, part[1])
    return done


def details(name: str, argument: int, memory: bytes) -> dict[str, Any]:
    """What the call's argument says: `memory` is what `argument` points to, if it could be read."""
    if name == "TUNSETOFFLOAD":
        return {"offloads": argument}
    if name == SCM_RIGHTS:
        return {"fds": _passed(memory)}
    if name not in _LAYOUTS:
        return {}
    layout, names = _LAYOUTS[name]
    if len(memory) < layout.size:
        return {}
    said: dict[str, Any] = dict(zip(names, layout.unpack_from(memory), strict=True))
    if name.startswith("TUN") and "ifname" in said:
        said["ifname"] = said["ifname"].partition(b"\0")[0].decode(errors="replace")
        said["flags"] = " ".join(word for bit, word in _TAP_FLAGS.items() if said["flags"] & bit)
    return said


def _passed(control: bytes) -> list[int]:
    """The descriptors in the control messages of a sendmsg, as the sender numbers them (cmsg(3))."""
    fds: list[int] = []
    at = 0
    while at + 16 <= len(control):
        length, level, kind = struct.unpack_from("Qii", control, at)
        if length < 16:
            break
        if (level, kind) == (1, 1):  # SOL_SOCKET, SCM_RIGHTS
            data = control[at + 16 : at + length]
            fds += array.array("i", data[: len(data) // 4 * 4])
        at += (length + 7) & ~7
    return fds
