# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a command in a lab: what the lab is made of, what it sees, what is kept when it dies."""

import contextlib
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cprtest import paths
from cprtest.errors import NotInstalled
from cprtest.host import kvm
from cprtest.host.memory import available_mib
from cprtest.host.processes import MARK
from cprtest.host.runs import Run
from cprtest.lab import command, devices, images, kernel
from cprtest.lab.session import BOOT_LIMIT, FIRST_BOOT_LIMIT, LabError, NotStarted, Session, Sink
from cprtest.provision import installed

DISK_MIB = 256
HUGEPAGES = 136
"""A guest of 256 MiB, and some more."""

_KEPT_CONSOLES = 5
_NOT_CACHED = {"boot", "dev", "etc", "proc", "run", "sys", "tmp", "var", "lost+found"}
_NOT_FOR_INSIDE = {
    MARK,
    "CPRTEST_PATIENCE",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
}


@dataclass(frozen=True)
class Settings:
    """Size of the lab. cpus: None for what suits the host. ivshmem_mib: BARs of ivshmem, powers of two.

    CHECKOUT/results, the cache and `writable` can be written there. devices: roles of those that can be
    passed through, all where none is named. monitor: where the lab's own QEMU listens for QMP.
    """

    memory_mib: int = 6144
    cpus: int | None = None
    ivshmem_mib: tuple[int, ...] = (64,)
    writable: tuple[Path, ...] = ()
    devices: tuple[str, ...] = ()
    monitor: Path | None = None


@dataclass(frozen=True)
class Command:
    """What to run in a lab, where (None: in this directory), with our standard input or none."""

    argv: tuple[str, ...]
    cwd: Path | None = None
    forward_stdin: bool = False


_MOST = 4
"""CPUs of a lab, or labs or jobs side by side, that tests make use of."""


def side_by_side() -> int:
    """How many labs run a number of tests fastest, at least one.

    An emulated lab has one CPU (docs/lab.md), so there is one for each of the host's; they all have to fit
    into the memory that is available. A lab on KVM has several CPUs, and is alone.
    """
    try:
        accel, _ = _accelerator(installed.qemu())
    except NotInstalled:
        return 1  # and that one will say it
    if accel == "kvm":
        return 1
    return max(1, min(cpus(), available_mib() // Settings().memory_mib))


def cpus() -> int:
    """The host's CPUs that tests make use of."""
    return min(_MOST, len(os.sched_getaffinity(0)))


def run(what: Command, settings: Settings) -> int:
    """Run `what` in a lab of its own and return its exit status; its output streams to ours.

    It gets this process's environment. Raises LabError when the lab cannot be started or dies, NotInstalled
    before scripts/setup.
    """

    def attempt(boot_limit: float) -> int:
        with started(what, settings) as session:
            return session.wait(writer(1), writer(2), boot_limit)

    try:
        return attempt(FIRST_BOOT_LIMIT)
    except NotStarted as error:
        print(f"{error} Starting it once more.", file=sys.stderr, flush=True)
        return attempt(BOOT_LIMIT)


@contextlib.contextmanager
def started(what: Command, settings: Settings) -> Iterator[Session]:
    """A lab on its way up, gone when the block ends. If it died, its console's log is kept and named."""
    _check_memory(settings.memory_mib)
    stock, qemu = installed.kernel(), installed.qemu()
    if not (paths.VENV / "bin" / "virtme-run").exists():
        raise NotInstalled("virtme-ng is not there yet: run `scripts/setup`.")
    accel, kvm_module = _accelerator(qemu)
    tree = kernel.tree(stock)
    python = images.python_images()
    (paths.CHECKOUT / "results").mkdir(exist_ok=True)
    places = _outermost([paths.CHECKOUT / "results", paths.cache_dir(), *settings.writable])
    with _run_directory() as directory, contextlib.ExitStack() as stack:
        disk = stack.enter_context(open(os.memfd_create("nvme"), "wb"))
        disk.truncate(DISK_MIB << 20)
        assignable = devices.chosen(devices.assignable(settings.ivshmem_mib, disk.fileno()), settings.devices)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for device in assignable if device.wire]
        ends = [stack.enter_context(end) for pair in pairs for end in pair]
        cables = [(near.fileno(), far.fileno()) for near, far in pairs]
        _write(directory / "command", _script(what))
        _write(directory / "devices", devices.table(assignable))
        _write(directory / "images", "".join(f"{serial} {where}\n" for serial, _, where in python))
        _write(directory / "writable", "".join(f"{place}\n" for place in places))
        _write(directory / "cached", "".join(f"{place}\n" for place in _cached()))
        values = {
            "kernel": str(tree),
            "drivers": " ".join(kernel.FIRST),
            "modules": " ".join([kvm_module, *kernel.REST]),
            "hugepages": str(HUGEPAGES),
            "stdin": "yes" if what.forward_stdin else "",
        }
        _write(directory / "lab", "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items()))
        parts = command.Parts(
            qemu=qemu,
            image=tree / "boot" / f"vmlinuz-{stock.release}",
            vmlinux=tree / "boot" / "vmlinux",
            run=directory,
            accel=accel,
            cpus=settings.cpus or (1 if accel == "tcg" else cpus()),
            memory_mib=settings.memory_mib,
            devices=devices.qemu_options(assignable, cables),
            images=[(serial, image) for serial, image, _ in python],
            writable=places,
            monitor=settings.monitor,
        )
        fds = [disk.fileno(), *(end.fileno() for end in ends)]
        session = Session(parts, fds, directory / "qemu.log", what.forward_stdin)
        for end in ends:
            end.close()
        try:
            yield session
        except LabError as error:
            session.close()
            raise type(error)(f"{error} {_last_words(directory)}") from None
        finally:
            session.close()


def writer(descriptor: int) -> Sink:
    """What writes all it is given to a descriptor of this process."""

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    return write


@contextlib.contextmanager
def _run_directory() -> Iterator[Path]:
    """A private directory that the lab sees too; removed at the end, or by the next run if we are killed."""
    run = Run.start()
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=paths.cache_dir() / "lab"))
    run.note(scratch=str(directory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _script(what: Command) -> str:
    """The shell script that becomes the command: environment, directory, exec."""
    inside = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_INSIDE}
    inside["CPRTEST_LANE"] = "lab"
    inside["CPRTEST_DEVICES"] = "/run/qemu-cpr/devices.json"
    path = inside.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    inside["PATH"] = f"/run/qemu-cpr/path:{path}:/usr/local/sbin:/usr/sbin:/sbin"
    exports = [f"export {key}={shlex.quote(value)}" for key, value in inside.items() if key.isidentifier()]
    change = f"cd -- {shlex.quote(str(what.cwd or Path.cwd()))} || exit 126"
    return "\n".join([*exports, change, f"exec {shlex.join(what.argv)}", ""])


def _cached() -> list[Path]:
    """Directories of the root that the lab sees through a cache: all but those its init makes or mounts."""
    found = (path for path in Path("/").iterdir() if path.name not in _NOT_CACHED)
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _outermost(directories: Sequence[Path]) -> list[Path]:
    """Without doubles and without what lies in another one of them."""
    resolved = sorted({directory.resolve(strict=True) for directory in directories})
    return [path for path in resolved if not any(other in path.parents for other in resolved)]


def _check_memory(wanted_mib: int) -> None:
    available = available_mib()
    if available < wanted_mib:
        raise LabError(
            f"The lab needs {wanted_mib} MiB of memory and {available} MiB are available. "
            "Free some, or give it less with --memory."
        )


def _accelerator(qemu: Path) -> tuple[str, str]:
    """QEMU's accelerator and the inside's KVM module. KVM if it runs a stock kernel and can be nested."""
    for module in kernel.KVM:
        nested = Path("/sys/module", module, "parameters/nested")
        if nested.exists() and nested.read_text().strip() in "1Y" and kvm.unusable(qemu) is None:
            return "kvm", module
    return "tcg", "kvm_amd"


def _last_words(directory: Path) -> str:
    """Keep the logs of a lab that died; a sentence with the end of them and the place."""
    kept = paths.cache_dir() / "lab" / "consoles"
    kept.mkdir(exist_ok=True)
    for old in sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime)[: -_KEPT_CONSOLES + 1]:
        old.unlink(missing_ok=True)
    log = kept / f"{directory.name}.log"
    parts = [directory / name for name in ("console.log", "qemu.log")]
    text = "".join(path.read_text(errors="replace") for path in parts if path.exists())
    log.write_text(text)
    lines = [line for line in text.splitlines() if line.strip()]
    last = f"Its last words: {lines[-1].strip()!r}. " if lines else "It said nothing. "
    return f"{last}Console: {log}"
