# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lab: run a command, a shell or an inventory in a lab."""

import argparse
import json
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from cprtest import manpage, paths
from cprtest.errors import LAB_DIED, CprError, UsageError
from cprtest.lab.launch import Command, Settings, run, started, writer

_EPILOG = manpage.sections(
    options_of_each="see scripts/lab run --help",
    files="CACHE/lab/consoles     the lab's own console, of those that failed",
    exit_status=f"""
        {LAB_DIED}     the lab itself failed, with a message
        2       wrong command line
        130     interrupted
        other   that of the command
        """,
    examples="""
        scripts/lab run uname -r
        scripts/lab shell
        echo 'dmesg | tail' | scripts/lab shell
        """,
)


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _act(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except CprError as error:
        print(f"error: {error}", file=sys.stderr)
        return LAB_DIED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


def _parser() -> argparse.ArgumentParser:
    size = argparse.ArgumentParser(add_help=False)
    default = Settings()
    size.add_argument(
        "--memory", type=_mebibytes, default=default.memory_mib, metavar="SIZE", help="default: 6G"
    )
    size.add_argument("--cpus", type=_positive, help="default: 1 on TCG, on KVM the host's, at most 4")
    bars = "BAR of the ivshmem device, a power of two, and of further ones (role ivshmem-MIB); default: 64M"
    size.add_argument("--ivshmem", type=_sizes, default=default.ivshmem_mib, metavar="SIZE,...", help=bars)
    roles = "devices to pass through that it has, separated by commas; default: all (docs/lab.md)"
    size.add_argument("--devices", type=_words, default=(), metavar="ROLES", help=roles)
    more = "a directory that can be written in the lab; may be repeated"
    size.add_argument("--writable", type=Path, action="append", default=[], metavar="DIR", help=more)
    qmp = "let the lab's own QEMU listen for QMP there: to look at a lab that hangs"
    size.add_argument("--monitor", type=Path, metavar="SOCKET", help=qmp)
    parser = argparse.ArgumentParser(
        prog="scripts/lab",
        description="A throw-away VM on this host's files with KVM, vhost, VFIO and devices to pass through. "
        "CHECKOUT/results and the cache can be written there; the rest is read-only or goes with the lab.",
        epilog=_EPILOG,
        formatter_class=manpage.Formatter,
    )
    commands = parser.add_subparsers(dest="action", required=True)
    passed_on = f"run a command; its exit status is passed on; {LAB_DIED}: the lab itself failed"
    command = commands.add_parser("run", parents=[size], help=passed_on)
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND ...")
    reads = "a root shell; reads commands from standard input if that is no terminal"
    commands.add_parser("shell", parents=[size], help=reads)
    commands.add_parser("info", parents=[size], help="JSON of what the lab offers")
    return parser


def _act(options: argparse.Namespace) -> int:
    writable = tuple(options.writable)
    settings = Settings(
        options.memory, options.cpus, options.ivshmem, writable, options.devices, options.monitor
    )
    missing = [directory for directory in options.writable if not directory.is_dir()]
    if missing:
        raise UsageError(f"{missing[0]} is not a directory: create it before it is made writable in the lab.")
    if options.monitor:
        _check_socket(options.monitor)
    if options.action == "info":
        return _info(settings)
    if options.action == "shell":
        return _shell(settings)
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not argv:
        raise UsageError("say which command to run: scripts/lab run COMMAND ...")
    return run(Command(tuple(argv), forward_stdin=not sys.stdin.isatty()), settings)


def _check_socket(path: Path) -> None:
    """Raises UsageError unless QEMU can listen there; it takes the place of a socket that is there."""
    if path.is_socket():
        return
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.bind(str(path))
        path.unlink()
    except OSError as error:
        raise UsageError(f"{path}: the lab's QEMU cannot listen there: {error.strerror or error}.") from None


def _shell(settings: Settings) -> int:
    if not sys.stdin.isatty():
        return run(Command(("bash",), forward_stdin=True), settings)
    import termios  # noqa: PLC0415 - only with a terminal
    import tty  # noqa: PLC0415

    size = shutil.get_terminal_size()
    start = f"stty rows {size.lines} cols {size.columns}; exec bash -i"
    before = termios.tcgetattr(0)
    print("Starting the lab; leave it with Ctrl-D.", file=sys.stderr)
    try:
        tty.setraw(0)
        argv = ("script", "-qec", f"sh -c {shlex.quote(start)}", "/dev/null")
        return run(Command(argv, forward_stdin=True), settings)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _info(settings: Settings) -> int:
    out: list[bytes] = []
    argv = (str(paths.VENV / "bin" / "python"), "-m", "cprtest.lab.inventory")
    with started(Command(argv, cwd=paths.CHECKOUT), settings) as session:
        status = session.wait(out.append, writer(2))
    if status == 0:
        found = json.loads(b"".join(out)) | {"boot_seconds": session.stages}
        print(json.dumps(found, indent=1))
    return status


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_mebibytes(word) for word in text.split(","))


def _mebibytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([MG])", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 6G or 512M")
    return int(match[1]) << (10 if match[2] in "gG" else 0)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of CPUs")
    return int(text)
