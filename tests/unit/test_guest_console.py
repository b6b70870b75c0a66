# SPDX-License-Identifier: GPL-2.0-or-later
"""The console shell: host side and the guest's own script, joined by a socket pair."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cprtest.guest import GuestError
from cprtest.guest.console import ConsoleShell, Interrupted, Result, encode_request, find_reply
from cprtest.paths import ASSETS
from cprtest.provision.programs import compiled

needs_busybox = pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")


class Line:
    """The guest's script on a serial line that can be cut: `reconnect` gives the host a new end."""

    def __init__(self, directory: Path) -> None:
        script = (ASSETS / "guest" / "console-shell").read_text().replace("/run/shell", str(directory))
        self._inside, outside = socket.socketpair()
        self.host = outside
        commands = directory / "commands"
        commands.mkdir()
        (commands / "console-reply").symlink_to(compiled(ASSETS / "guest" / "console-reply.c"))
        self._process = subprocess.Popen(
            ["busybox", "sh", "-c", script],
            stdin=self._inside.fileno(),
            stdout=self._inside.fileno(),
            env={"PATH": f"{commands}:{os.environ['PATH']}"},
        )

    def close(self) -> None:
        self.host.close()
        self._inside.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with closing(Line(tmp_path)) as line:
        yield line


@needs_busybox
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo hi", Result(0, b"hi\n")),
        ("exit 3", Result(3, b"")),
        ("echo out; echo err >&2; false", Result(1, b"out\nerr\n")),
        (r"printf 'a\0b\377\036e x\n'", Result(0, b"a\0b\xff\x1ee x\n")),
        ("  echo '  blanks  '  ", Result(0, b"  blanks  \n")),
        ('x="1 2"\nfor i in $x; do echo "$i%"; done', Result(0, b"1%\n2%\n")),
        ("echo 'é \\ \\\\ \\n'", Result(0, "é \\ \\\\ \\n\n".encode())),
        ("", Result(0, b"")),
        ("head -c 300000 /dev/zero", Result(0, bytes(300000))),
    ],
)
def test_output_and_status_come_back_as_they_are(line: Line, command: str, expected: Result) -> None:
    assert ConsoleShell(line.host).run(command, 20) == expected


@needs_busybox
def test_a_command_asked_for_again_is_not_run_again(line: Line, tmp_path: Path) -> None:
    shell = ConsoleShell(line.host)
    shell.run(f"echo once >>{tmp_path}/count; cat {tmp_path}/count", 20)
    assert shell.resume(20).output == "once"
    assert (tmp_path / "count").read_text() == "once\n"


@needs_busybox
def test_half_a_request_is_not_run(line: Line, tmp_path: Path) -> None:
    shell = ConsoleShell(line.host)
    request = encode_request("cut", f"touch {tmp_path}/done; touch {tmp_path}/never")
    line.host.sendall(request[: request.index(b";")])
    assert shell.run("echo next", 20).output == "next"
    assert not (tmp_path / "done").exists()


@needs_busybox
def test_a_garbled_request_is_sent_again(line: Line) -> None:
    shell = ConsoleShell(line.host)
    shell.send("echo right")
    line.host.sendall(b"\nxyz 99 echo wrong\n")
    assert shell.receive(20).output == "right"
    line.host.sendall(b"\nxyz 99 echo wrong\n")
    assert shell.run("echo again", 20).output == "again"


def test_the_reply_to_an_earlier_request_is_passed_over() -> None:
    stream = b"tail\x1ee a\n\x1eb a 0 2\nA\n\x1ee a\n\x1eb b 1 2\nB\n\x1ee b\n"
    assert find_reply(stream, "b") == Result(1, b"B\n")
    assert find_reply(stream, "c") is None


def test_a_reply_with_a_hole_is_not_taken() -> None:
    assert find_reply(b"\x1eb a 0 9\nonly\n\x1ee a\n", "a") is None


def test_a_closed_line_is_told_apart_from_silence() -> None:
    host, guest = socket.socketpair()
    with closing(host), closing(guest):
        shell = ConsoleShell(host)
        with pytest.raises(GuestError, match=r"'sync'.*no reply within 0.1 s") as silence:
            shell.run("sync", 0.1)
        assert not isinstance(silence.value, Interrupted)
        guest.close()
        with pytest.raises(Interrupted, match=r"'true'.*closed"):
            shell.run("true", 1)


def test_after_a_handover_the_same_request_goes_to_the_target() -> None:
    (source, source_guest), (target, target_guest) = socket.socketpair(), socket.socketpair()
    with closing(source), closing(source_guest), closing(target), closing(target_guest):
        shell = ConsoleShell(source)
        shell.send("echo hi")
        request = source_guest.recv(100)
        ident = request.split()[0].decode()
        source_guest.sendall(f"\x1eb {ident} 0 3\nh".encode())
        source_guest.close()
        with pytest.raises(Interrupted):
            shell.receive(1)
        shell.attach(target)
        target_guest.sendall(f"i\n\x1ee {ident}\n\x1eb {ident} 0 3\nhi\n\x1ee {ident}\n".encode())
        assert shell.resume(1).output == "hi"
        assert target_guest.recv(100) == request
