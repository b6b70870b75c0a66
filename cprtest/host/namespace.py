# SPDX-License-Identifier: GPL-2.0-or-later
"""An anonymous network namespace: never named under /run/netns, gone with the last process that uses it.

With CAP_SYS_ADMIN it is held by a descriptor of this process and costs no process at all. Without,
it sits in a user namespace of its own, which only a single-threaded process can enter: there a `cat`
holds it, which ends by itself when this process does, and sockets are made by a helper process.
"""

import array
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from cprtest.errors import CprError
from cprtest.paths import or_in_lab

_T = TypeVar("_T")

_CLONE_NEWNET = 0x40000000  # linux/sched.h

_HOLDER = ["unshare", "--user", "--map-root-user", "--net", "--", "cat"]

# Runs inside the namespace; sends one new socket back through the descriptor it is told of.
_SOCKET_HELPER = """
import socket, sys
channel, family, kind, protocol = map(int, sys.argv[1:])
made = socket.socket(family, kind, protocol)
socket.send_fds(socket.socket(fileno=channel), [b"s"], [made.fileno()])
"""


class Namespace:
    """A network namespace of our own. `close()` lets go of it; processes inside keep it alive.

    Raises CprError where neither CAP_SYS_ADMIN nor user namespaces are to be had.
    """

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        self._descriptor = -1
        try:
            self._descriptor = _in_thread(_unshare)
        except PermissionError:
            self._holder = _start_holder()

    @property
    def needs_user_namespace(self) -> bool:
        """Whether the namespace sits in a user namespace, because this process may not make one without."""
        return self._holder is not None

    @property
    def path(self) -> str:
        """A path by which other processes can open the namespace while this object is open."""
        if self._holder is not None:
            return f"/proc/{self._holder.pid}/ns/net"
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, prefixed so that it runs inside, with its environment, directory and descriptors kept."""
        prefix = ["nsenter", f"--net={self.path}"]
        if self._holder is not None:
            prefix += ["--preserve-credentials", f"--user=/proc/{self._holder.pid}/ns/user"]
        return [*prefix, "--", *argv]

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """subprocess.Popen inside. Spares the nsenter where it can: an exec takes long in an emulated lab."""
        if self._holder is not None:
            return subprocess.Popen(self.command(argv), **options)
        return self.inside(lambda: subprocess.Popen(argv, **options))

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives inside, for use by this process."""
        if self._holder is None:
            return self.inside(lambda: socket.socket(family, kind, protocol))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            numbers = [str(int(number)) for number in (theirs.fileno(), family, kind, protocol)]
            helper = self.command([sys.executable, "-I", "-S", "-c", _SOCKET_HELPER, *numbers])
            result = subprocess.run(
                helper, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True, check=False
            )
            if result.returncode != 0:
                raise CprError(
                    f"No socket could be made in the test's network namespace: {result.stderr.strip()}"
                )
            _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        return socket.socket(fileno=array.array("i", ancillary[0][2])[0])

    def close(self) -> None:
        """Let go of the namespace. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._holder is not None:
            with self._holder as holder:
                holder.kill()
            self._holder = None

    def inside(self, work: Callable[[], _T]) -> _T:
        """Do `work` inside, in a thread of its own. Raises CprError for a namespace in a user namespace."""
        if self._holder is not None:
            raise CprError("Only root can open files inside the test's network namespace.")

        def enter() -> _T:
            _libc_call("setns", self._descriptor, _CLONE_NEWNET)
            return work()

        return _in_thread(enter)


def _unshare() -> int:
    _libc_call("unshare", _CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _libc_call(name: str, *arguments: int) -> None:
    # os.setns and os.unshare came with Python 3.12.
    import ctypes  # noqa: PLC0415 - not needed by tests without a network

    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _in_thread(work: Callable[[], _T]) -> _T:
    """Run `work` in a thread of its own, because a namespace once entered stays with the thread."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _start_holder() -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(
        _HOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
    # What cat echoes proves that unshare has done all its work before it.
    with contextlib.suppress(BrokenPipeError):
        holder.stdin.write(b"?")
    if holder.stdout.read(1) == b"?":
        return holder
    with holder:
        said = holder.stderr.read().decode(errors="replace").strip()
    how = (
        "Run as root, or allow user namespaces (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )
    raise CprError(
        f"No network namespace can be made here: {said or os.strerror(errno.EPERM)}. {or_in_lab(how)}"
    )
