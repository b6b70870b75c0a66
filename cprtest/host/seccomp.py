# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether seccomp user notification works here, found out by answering one system call with it.

A filter holds for the thread that installs it and dies with that thread, so no process is needed.
Source: seccomp_unotify(2), linux/seccomp.h, linux/filter.h.
"""

import ctypes
import fcntl
import os
import select
import struct
import threading

from cprtest.limits import stretched

_SYS_SECCOMP, _SYS_GETPPID = 317, 110  # x86-64
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_RET_ALLOW, _RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NOTIF_SIZE, _RESPONSE_SIZE = 80, 24
_IOCTL_RECV = 3 << 30 | _NOTIF_SIZE << 16 | 0x21 << 8
_IOCTL_SEND = 3 << 30 | _RESPONSE_SIZE << 16 | 0x21 << 8 | 1
_LIMIT = 2.0
_ANSWER = 4242


def unusable() -> str | None:
    """None if an unprivileged process can be supervised here; else the reason, with what to do."""
    listeners: list[int] = []
    failures: list[str] = []
    seen: list[int] = []
    installed = threading.Event()

    def supervised() -> None:
        try:
            listeners.append(_install())
        except OSError as error:
            failures.append(str(error.strerror))
        installed.set()
        if listeners:
            # Through ctypes, which lets go of Python's lock meanwhile; os.getppid would not.
            seen.append(ctypes.CDLL(None).getppid())

    # Daemon: if nobody answers, the thread stays in its system call, and must not hold up our exit.
    thread = threading.Thread(target=supervised, name="seccomp-probe", daemon=True)
    thread.start()
    installed.wait()
    if failures:
        return (
            f"The kernel refuses a seccomp listener: {failures[0]}. "
            "Linux 5.5 or newer is needed, and a container must allow the seccomp system call."
        )
    try:
        _answer(listeners[0])
    except OSError as error:
        return f"The kernel's seccomp notification does not work: {error.strerror}. Use Linux 5.5 or newer."
    finally:
        # Closing the listener fails a call that is still waiting with ENOSYS.
        os.close(listeners[0])
        thread.join(stretched(_LIMIT))
    if seen != [_ANSWER]:
        return f"A system call answered by seccomp notification returned {seen}. Use another kernel."
    return None


def _install() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD_WORD, 0, 0, 0),  # the system call's number
            (_JUMP_EQUAL, 0, 1, _SYS_GETPPID),
            (_RETURN, 0, 0, _RET_USER_NOTIF),
            (_RETURN, 0, 0, _RET_ALLOW),
        )
    )
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    descriptor: int = libc.syscall(_SYS_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, program)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def _answer(listener: int) -> None:
    waiter = select.poll()
    waiter.register(listener, select.POLLIN)
    if not waiter.poll(stretched(_LIMIT) * 1000):
        raise OSError(0, "no notification came")
    notification = bytearray(_NOTIF_SIZE)
    fcntl.ioctl(listener, _IOCTL_RECV, notification)
    (ident,) = struct.unpack_from("Q", notification)
    fcntl.ioctl(listener, _IOCTL_SEND, bytearray(struct.pack("QqiI", ident, _ANSWER, 0, 0)))
