# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether KVM works here, found out by booting a stock kernel on it.

/dev/kvm proves nothing: there are hosts whose KVM runs paravirtual guests only, and where a stock
kernel dies with `emulation failure` in its start-up code. So a kernel is booted, without a root file
system, until it gives up looking for one.
"""

import os
import selectors
import subprocess
import time
from pathlib import Path

from cprtest.errors import CprError
from cprtest.host.answers import remembered
from cprtest.host.journal import boot_id
from cprtest.paths import lane, or_in_lab


class _NotProven(CprError):
    """The probe said nothing about KVM; not worth remembering."""


DEVICE = Path("/dev/kvm")
_LIMIT = {"here": 30.0, "lab": 240.0}
"""Seconds for the boot: under 2 s on bare metal, 10 s until a paravirtual-only KVM gives up, 12 to 55 s
with KVM nested in an emulated lab, depending on what else runs."""

_ELSEWHERE = "Run on another host"

# Quiet: a character on the console is several exits, each some 0.2 ms when nested in an emulated lab.
_ARGUMENTS = "console=ttyS0 panic=-1 quiet"
_BOOTED = b"Unable to mount root fs"
_BROKEN = (b"KVM internal error", b"emulation failure", b"error: kvm run failed")


def unusable(qemu: Path | None, kernel: Path | None = None) -> str | None:
    """None if `qemu` boots a stock kernel with KVM here; else the reason, with what to do.

    The answer is kept: on a host until its next boot, in a lab for labs with the same kernel and CPU,
    since there the probe takes long. One that begins with "Not proven" is not kept.
    `kernel`: the one that scripts/setup installed by default.
    """
    if not DEVICE.exists():
        return f"{DEVICE} is missing. {or_in_lab('Load it (modprobe kvm_amd or kvm_intel)')}"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        how = "Add the user to the group kvm"
        return f"{DEVICE} may not be opened by this user. {or_in_lab(how)}"
    try:
        qemu, kernel = _installed(qemu, kernel)
    except CprError as error:
        return f"Not proven, since a kernel has to be booted for that. {error}"
    where = lane() if lane() == "lab" else boot_id()
    status = qemu.stat()
    binary = (os.path.realpath(qemu), status.st_size, status.st_mtime_ns)
    key = (where, os.uname().release, _cpu_model(), binary, str(kernel))
    try:
        answer = remembered("kvm-boots", key, lambda: {"reason": _probe(qemu, kernel)})
    except _NotProven as error:
        return f"Not proven. {error}. {or_in_lab(_ELSEWHERE)}"
    reason: str | None = answer["reason"]
    return f"{reason}. {or_in_lab(_ELSEWHERE)}" if reason else None


def _installed(qemu: Path | None, kernel: Path | None) -> tuple[Path, Path]:
    from cprtest.provision import installed  # noqa: PLC0415 - only the probe needs it

    return qemu or installed.qemu(), kernel or installed.kernel().image


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _probe(qemu: Path, kernel: Path) -> str | None:
    argv = [
        *(str(qemu), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-serial", "stdio"),
        *("-kernel", str(kernel), "-append", _ARGUMENTS),
    ]
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise _NotProven(f"{qemu} cannot be started: {error.strerror}") from error
    with process:
        try:
            return _judge(process, _LIMIT[lane()])
        finally:
            process.kill()


def _judge(process: subprocess.Popen[bytes], limit: float) -> str | None:
    """Read the console until it says how the boot went."""
    assert process.stdout is not None
    said = b""
    end = time.monotonic() + limit
    with selectors.DefaultSelector() as waiter:
        waiter.register(process.stdout, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if not waiter.select(left):
                break
            chunk = os.read(process.stdout.fileno(), 65536)
            said += chunk
            if _BOOTED in said:
                return None
            broken = next((sign for sign in _BROKEN if sign in said), None)
            if broken:
                return f"KVM cannot run a stock kernel here ({_line_with(broken, said)})"
            if not chunk:
                raise _NotProven(f"QEMU ended when it was started with KVM: {_line_with(b'', said)}")
    # A busy machine may be all there is to it.
    raise _NotProven(f"A stock kernel did not boot with KVM within {limit:g} s ({_line_with(b'', said)})")


def _line_with(sign: bytes, said: bytes) -> str:
    lines = [line.strip() for line in said.splitlines() if sign in line and line.strip()]
    return lines[-1].decode(errors="replace") if lines else "it said nothing"
