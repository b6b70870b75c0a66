# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in the guest over a virtio-serial port. Needs no network, and survives a hand-over.

The other end is assets/guest/console-shell. One request is one line of printable ASCII:

    ID LENGTH CODE          CODE: the command, everything unusual as \\0ooo; LENGTH: of ID and CODE

One reply is the command's output as it is, between two markers that start with byte 0x1e:

    \\x1e b ID STATUS SIZE \\n  OUTPUT  \\x1e e ID \\n

\\x1e m \\n says that a request came through malformed.

A port has no acknowledgement, and a hand-over can cut a request or a reply anywhere: what the
source's socket still held is gone. Therefore the guest runs each ID once and keeps the last reply, and the
host sends the same request again on the target's socket: it gets the reply, whether or not the command had
run by then.
"""

import re
import secrets
import select
import shlex
import socket
import time
from dataclasses import dataclass

from cprtest.guest import GuestError

_PLAIN = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-+=.,:;/|&<>()[]{}$\"'*?!@#^~`%"
)
_BEGIN = re.compile(rb"\x1eb ([0-9a-z]+) (\d+) (\d+)\n")
_SHOWN = 400


@dataclass(frozen=True)
class Result:
    """How a command ended: exit status, standard output and error as they came."""

    status: int
    data: bytes

    @property
    def output(self) -> str:
        """The output as text, without the last newline."""
        return self.data.decode(errors="replace").removesuffix("\n")


class Interrupted(GuestError):
    """The line went away before the reply: attach the next socket and call `resume`."""


def encode_request(ident: str, command: str) -> bytes:
    """The request line; a newline in front ends whatever a hand-over left half sent."""
    code = "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in command.encode())
    # `read` drops blanks at the end of a line, and takes those in front for separators.
    bare = code.strip(" ")
    blanks = len(code) - len(code.lstrip(" ")), len(code) - len(code.rstrip(" "))
    code = "\\0040" * blanks[0] + bare + "\\0040" * blanks[1] if bare else ":"
    return f"\n{ident} {len(ident) + len(code)} {code}\n".encode()


def find_reply(received: bytes, ident: str) -> Result | None:
    """The whole reply to request `ident` in what was received, or None if it is not complete yet."""
    for begin in _BEGIN.finditer(received):
        if begin[1].decode() != ident:
            continue
        size = int(begin[3])
        end = begin.end() + size
        if received.startswith(f"\x1ee {ident}\n".encode(), end):
            return Result(int(begin[2]), received[begin.end() : end])
    return None


class ConsoleShell:
    """Runs commands in the guest over `sock`, which is connected to the guest's port `shell`.

    `run` is synchronous; one command at a time. The socket belongs to the caller.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._prefix = secrets.token_hex(3)
        self._count = 0
        self._ident = ""
        self._command = ""
        self._received = bytearray()

    def attach(self, sock: socket.socket) -> None:
        """Go on with the target's socket. A command that was under way is asked for again by `resume`."""
        self._sock = sock
        self._received.clear()

    def run(self, command: str, timeout: float) -> Result:
        """Run `command` (sh syntax) in the guest and return how it ended.

        timeout: seconds, not stretched. A command that ends with a non-zero status is a result, not an error.
        Raises Interrupted if the line went away, GuestError if no reply came in time; the command may then
        still be running, and the next one waits for it.
        """
        self.send(command)
        return self.receive(timeout)

    def send(self, command: str) -> None:
        """Send `command` without waiting for its reply: call `receive` (or, after a hand-over, `resume`)."""
        self._count += 1
        self._ident = f"{self._prefix}x{self._count}"
        self._command = command
        self._received.clear()
        self._send(time.monotonic() + 10)

    def resume(self, timeout: float) -> Result:
        """Ask again, on the socket attached last, for the reply to the last command; it is not run twice."""
        self._received.clear()
        self._send(time.monotonic() + timeout)
        return self.receive(timeout)

    def receive(self, timeout: float) -> Result:
        """Wait for the reply to the command sent last. Errors as in `run`."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._sock], [], [], left)[0]:
                raise self._error(f"no reply within {timeout:.1f} s")
            chunk = self._read()
            self._received += chunk
            if b"\x1em\n" in self._received:
                self._received.clear()
                self._send(deadline)
            # A whole reply ends with a newline: no need to search at every piece of a long one.
            elif chunk.endswith(b"\n"):
                result = find_reply(bytes(self._received), self._ident)
                if result is not None:
                    return result

    def start(self, name: str, command: str, timeout: float) -> str:
        """Start `command` in the background; returns the path in the guest of the file with its output.

        /run/jobs/NAME.status appears, with the exit status, when it has ended.
        """
        base = f"/run/jobs/{name}"
        job = (
            f"({command}\n) >{base}.output 2>&1 </dev/null; echo $? >{base}.new; mv {base}.new {base}.status"
        )
        result = self.run(
            f"mkdir -p /run/jobs && rm -f {base}.* && setsid sh -c {shlex.quote(job)} &", timeout
        )
        if result.status:
            raise GuestError(f"guest job {name} ({command}) did not start: {result.output}")
        return f"{base}.output"

    def _send(self, deadline: float) -> None:
        data = encode_request(self._ident, self._command)
        try:
            self._sock.settimeout(max(0.01, deadline - time.monotonic()))
            self._sock.sendall(data)
        except TimeoutError:
            raise self._error("QEMU did not take the request") from None
        except OSError as error:
            raise self._interrupted(error) from error

    def _read(self) -> bytes:
        try:
            chunk = self._sock.recv(1 << 16)
        except OSError as error:
            raise self._interrupted(error) from error
        if not chunk:
            raise self._interrupted("end of file")
        return chunk

    def _interrupted(self, why: object) -> Interrupted:
        return Interrupted(self._text(f"the console's socket was closed before the reply ({why})"))

    def _error(self, what: str) -> GuestError:
        return GuestError(self._text(what))

    def _text(self, what: str) -> str:
        seen = bytes(self._received[-_SHOWN:]).decode(errors="replace")
        return f"guest command {self._command!r} over the console shell: {what}; last received: {seen!r}"
