# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH into the guest, over a socket that the harness connected (inside a network namespace, say).

paramiko is imported where it is used: it takes seconds in the lab, and most tests get by without.
"""

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cprtest.guest import GuestError
from cprtest.guest.console import Result

if TYPE_CHECKING:
    import paramiko

_READ = 1 << 16


class SshShell:
    """Root's session in the guest; a context manager. Made by `connect`."""

    def __init__(self, transport: "paramiko.Transport") -> None:
        self._transport = transport

    def __enter__(self) -> "SshShell":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def run(self, command: str, timeout: float) -> Result:
        """Run `command` (sh syntax), standard output and error together; timeout in seconds.

        Raises GuestError when the connection is lost or the time is up; a non-zero status is a result.
        """
        import paramiko  # noqa: PLC0415

        deadline = time.monotonic() + timeout
        data = bytearray()
        try:
            channel = self._transport.open_session(timeout=timeout)
            channel.set_combine_stderr(True)
            channel.exec_command(command)
            while True:
                channel.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = channel.recv(_READ)
                if not chunk:
                    break
                data += chunk
            if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("no exit status")
            return Result(channel.recv_exit_status(), bytes(data))
        except (paramiko.SSHException, OSError, EOFError) as error:
            seen = bytes(data[-400:]).decode(errors="replace")
            raise GuestError(
                f"guest command {command!r} over SSH: {str(error) or type(error).__name__} "
                f"(limit {timeout:.1f} s); last output: {seen!r}"
            ) from error

    def close(self) -> None:
        """End the session and its socket."""
        self._transport.close()


def connect(sock: socket.socket, key: Path, timeout: float) -> SshShell:
    """Log in as root over `sock`, connected to the guest's port 22; timeout in seconds.

    key: id_ed25519 of the guest image, beside which host_key.pub holds the key that the guest must show.
    Raises GuestError. The socket belongs to the session from now on.
    """
    import paramiko  # noqa: PLC0415

    expected = (key.parent / "host_key.pub").read_text().split()[1]
    transport: paramiko.Transport | None = None
    try:
        transport = paramiko.Transport(sock)
        transport.banner_timeout = timeout
        transport.start_client(timeout=timeout)
        shown = transport.get_remote_server_key().get_base64()
        if shown != expected:
            raise GuestError(
                f"the SSH server is not the guest: it shows host key {shown}, expected {expected}"
            )
        transport.auth_timeout = timeout
        transport.auth_publickey("root", paramiko.Ed25519Key.from_private_key_file(str(key)))
    except BaseException as error:
        if transport is not None:
            transport.close()
        sock.close()
        if isinstance(error, (paramiko.SSHException, OSError, EOFError)):
            raise GuestError(f"SSH to the guest: {str(error) or type(error).__name__}") from error
        raise
    return SshShell(transport)
