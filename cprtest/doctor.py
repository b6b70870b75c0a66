# SPDX-License-Identifier: GPL-2.0-or-later
"""`scripts/doctor`: what this host can run, and one sentence for each missing thing.

Works before set-up, with the standard library only; what cannot be known yet says so.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cprtest import manpage, needs
from cprtest.errors import CprError, NotInstalled, exit_status
from cprtest.host import hostfile, proposal
from cprtest.host.memory import available_mib
from cprtest.host.pci import PciDevice
from cprtest.paths import cache_dir, lane
from cprtest.provision import installed

_HELP = """
What this host can run, and one sentence for each thing that is missing.

--json prints one object; keys are only ever added:
  lane      "here", or "lab" when run inside one
  checks    list of {name, ok, found, missing}: ok is true, false, or null where it cannot be known before
            scripts/setup; found says what there is; missing is one sentence how to get it, or null
  lanes     list of {name, ok, because}: "here" and "lab", whether the lane works, and one sentence
  qemu      null, or {path, version, build_id, modes, features}
"""
_EPILOG = manpage.sections(
    exit_status="""
        0  at least one lane works here
        1  none does
        2  wrong command line, or a host file that is wrong
        """,
    examples="scripts/doctor --json | jq .lanes",
)
_CACHE_MIB = 6144
_HERE_MIB, _LAB_MIB = 1024, 7168
"""What a lane needs: two QEMUs with small guests; the lab's 6 GiB and the QEMU around them."""


@dataclass(frozen=True)
class Check:
    """One line of the table; see _HELP."""

    name: str
    ok: bool | None
    found: str
    missing: str | None = None


@dataclass(frozen=True)
class Lane:
    """Whether tests can run in this lane."""

    name: str
    ok: bool
    because: str


def main(words: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/doctor", description=_HELP, epilog=_EPILOG, formatter_class=manpage.Formatter
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--hardware",
        action="store_true",
        help="print a host file for this machine: what tests could take, and what they must not",
    )
    parser.add_argument("--qemu", type=Path, metavar="BIN", help="judge this QEMU, not the reference build")
    return exit_status(lambda: _asked(parser.parse_args(words)), "Interrupted.")


def _asked(options: argparse.Namespace) -> int:
    hostfile.allowed_devices()  # a host file that is wrong is told before anything else
    if options.hardware:
        print(proposal.propose(proposal.candidates(), proposal.vdpa_nodes()), end="")
        return 0
    checks = list(examine(options.qemu))
    lanes = judge(checks)
    if options.json:
        answer = {"lane": lane(), "checks": checks, "lanes": lanes, "qemu": _qemu_facts(options.qemu)}
        print(json.dumps(answer, default=asdict, indent=1))
    else:
        show(checks, lanes)
    return 0 if any(found.ok for found in lanes) else 1


def examine(qemu: Path | None) -> Iterator[Check]:
    """Look at everything that tests may need. `qemu`: the binary to judge, default the reference build."""
    yield from _installed(qemu)
    chosen = _chosen(qemu)
    yield _kvm(chosen)
    for name in needs.NAMES:
        if name in _FOUND:
            missing = needs.unmet([name])
            sentence = missing[0].removeprefix(f"{name}: ") if missing else None
            yield Check(name, not missing, "missing" if missing else _FOUND[name](), sentence)
    yield _passthrough()
    yield _memory()
    yield _disk()


def judge(checks: Sequence[Check]) -> list[Lane]:
    """Which lanes work, from what was found."""
    state = {check.name: check for check in checks}
    memory = int(state["memory"].found.split()[0])
    bad = [name for name in ("qemu", "kernel", "guest image") if state[name].ok is False]
    unready = [name for name in ("qemu", "kernel", "guest image") if state[name].ok is None]
    accel = "KVM" if state["kvm"].ok else "TCG"
    lanes = []
    for name, needed, how in (
        ("here", _HERE_MIB, f"Guests run with {accel}"),
        ("lab", _LAB_MIB, f"The lab runs on {accel} and has KVM, vhost and VFIO inside"),
    ):
        if name == "lab" and lane() == "lab":
            lanes.append(Lane(name, False, "This is a lab already."))
        elif bad:
            lanes.append(Lane(name, False, f"{state[bad[0]].missing}"))
        elif memory < needed:
            lanes.append(Lane(name, False, f"It needs {needed} MiB of memory, {memory} MiB are available."))
        else:
            setup = f", once scripts/setup has provided {' and '.join(unready)}" if unready else ""
            lanes.append(Lane(name, True, f"{how}{setup}."))
    return lanes


def show(checks: Sequence[Check], lanes: Sequence[Lane]) -> None:
    """Print for people: a table with rich where it is installed, plain lines otherwise."""
    rows = [(check.name, _MARK[check.ok], check.found) for check in checks]
    try:
        from rich.console import Console  # noqa: PLC0415 - not there before set-up
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        for name, mark, found in rows:
            print(f"{name:<15} {mark:<4} {found}")
    else:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("", "works", "found"):
            table.add_column(column)
        for name, mark, found in rows:
            table.add_row(Text(name), Text(mark, _COLOUR[mark]), Text(found))
        Console().print(table)
    if any(check.missing for check in checks):
        print("\nHow to get what is missing:")
    for check in checks:
        if check.missing:
            print(f"  {check.name}: {check.missing}")
    print("\nLanes:")
    for way in lanes:
        print(f"  {way.name:<5} {'works' if way.ok else 'does not work'}: {way.because}")


_MARK = {True: "yes", False: "no", None: "?"}
_COLOUR = {"yes": "green", "no": "red", "?": "yellow"}


def _groups() -> str:
    return f"{len(list(Path('/sys/kernel/iommu_groups').iterdir()))} IOMMU groups, vfio-pci usable"


_FOUND: dict[str, Callable[[], str]] = {
    "vhost-net": lambda: "/dev/vhost-net",
    "vhost-vsock": lambda: "/dev/vhost-vsock",
    "tun": lambda: "/dev/net/tun",
    "macvtap": lambda: "a macvtap was made",
    "vdpa": lambda: ", ".join(map(str, hostfile.current().vdpa)),
    "iommufd": lambda: "/dev/iommu",
    "userns": lambda: "a user namespace was made",
    "netns": lambda: "a network namespace was made" + ("" if os.geteuid() == 0 else ", in a user namespace"),
    "vlan": lambda: "a VLAN interface was made",
    "seccomp-notify": lambda: "a system call was answered by a supervisor",
    "vfio": _groups,
    "hugepages": lambda: "free 2 MiB pages",
}


def _chosen(qemu: Path | None) -> Path | None:
    try:
        return qemu or installed.under_test().binary
    except CprError:
        return None


def _kvm(qemu: Path | None) -> Check:
    reasons = needs.unmet(["kvm"], qemu)
    if not reasons:
        return Check("kvm", True, "a stock kernel boots")
    reason = reasons[0].removeprefix("kvm: ")
    unknown = reason.startswith("Not proven")
    return Check("kvm", None if unknown else False, "not proven" if unknown else "unusable", reason)


def _installed(qemu: Path | None) -> Iterator[Check]:
    kinds: list[tuple[str, Callable[[], str]]] = [
        ("qemu", lambda: _qemu_text(qemu)),
        ("kernel", lambda: installed.kernel().release),
        ("guest image", lambda: installed.guest_image().ident),
    ]
    for name, look in kinds:
        try:
            yield Check(name, True, look())
        except NotInstalled as error:
            yield Check(name, None, "not there yet", str(error)[:1].upper() + str(error)[1:])
        except CprError as error:
            yield Check(name, False, "unusable", str(error))


def _qemu_text(qemu: Path | None) -> str:
    from cprtest.machine.features import features  # noqa: PLC0415

    found = features(qemu or installed.under_test().binary)
    known = [name for name in ("kvm", "tcg", "vfio-cpr", "vhost-vsock-pci") if found.has(name)]
    return f"{found.text}: {', '.join([*sorted(found.migration_modes - {'normal'}), *known])}"


def _qemu_facts(qemu: Path | None) -> dict[str, object] | None:
    from cprtest.machine.features import features  # noqa: PLC0415

    try:
        path = qemu or installed.under_test().binary
        found = features(path)
    except CprError:
        return None
    return {
        "path": str(path),
        "version": found.text,
        "build_id": found.build_id,
        "modes": sorted(found.migration_modes),
        "features": sorted(found.names),
    }


def _passthrough() -> Check:
    devices = hostfile.allowed_devices()
    if not devices:
        how = "List devices that tests may take in a host file (scripts/doctor --hardware proposes one)"
        return Check("devices", False, "none", f"{how}, or run in the lab.")
    absent = [device.address for device in devices if not PciDevice(device.address).path.exists()]
    if absent:
        sentence = f"The host file lists {', '.join(absent)}, which this host does not have: correct it."
        return Check("devices", False, f"{len(devices) - len(absent)} of {len(devices)}", sentence)
    words = [f"{d.role} {'with' if PciDevice(d.address).has_flr else 'without'} FLR" for d in devices]
    return Check("devices", True, ", ".join(words))


def _memory() -> Check:
    mib = available_mib()
    enough = mib >= _LAB_MIB or (lane() == "lab" and mib >= _HERE_MIB)
    missing = None if enough else f"The lab needs {_LAB_MIB} MiB: end other programs, or add memory."
    return Check("memory", enough, f"{mib} MiB available", missing)


def _disk() -> Check:
    mib = shutil.disk_usage(cache_dir()).free >> 20
    missing = None if mib >= _CACHE_MIB else f"Free {_CACHE_MIB} MiB, or move it: XDG_CACHE_HOME=DIR."
    return Check("cache", missing is None, f"{mib} MiB free in {cache_dir()}", missing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
