# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line that starts a lab: virtme-ng's virtme-run, told to use our QEMU, kernel and devices.

virtme-run is what `vng` itself calls, through a shell and with defaults of its own; called directly,
arguments stay arguments, and a user's configuration of vng does not change the lab.
"""

import shlex
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cprtest import paths

INSIDE = Path(__file__).parent / "inside"

# Nothing that a functional test could see depends on these, but the boot does: up to a third of it on TCG.
FAST_BOOT = (
    "mitigations=off",
    "init_on_alloc=0",
    "apparmor=0",
    "audit=0",
    "ima=off",
    "random.trust_cpu=on",
    "cryptomgr.notests",
    "nokaslr",
    "no5lvl",
    # Self-tests of cryptography; keys and hardware that nothing here uses.
    "initcall_blacklist=crypto_kdf108_init,init_encrypted,jent_mod_init,load_system_certificate_list,"
    "agp_intel_init,i8042_init",
)


@dataclass(frozen=True)
class Parts:
    """What a lab is made of.

    image: tells virtme-ng the kernel's release and modules; vmlinux: what is booted. accel: "kvm" or
    "tcg". images: erofs images by their disks' serial numbers.
    """

    qemu: Path
    image: Path
    vmlinux: Path
    run: Path
    accel: str
    cpus: int
    memory_mib: int
    devices: Sequence[str] = ()
    images: Sequence[tuple[str, Path]] = ()
    writable: Sequence[Path] = ()
    ports: dict[str, int] = field(default_factory=dict)
    """Connected stream sockets by name: stdin, stdout, stderr, control."""
    monitor: Path | None = None
    """Where the lab's own QEMU listens for QMP."""


def virtme_run(parts: Parts) -> list[str]:
    """The command line of the lab `parts`; it inherits the descriptors named there."""
    argv = [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *(str(paths.VENV / "bin" / "virtme-run"), "--kimg", str(parts.image), "--mods=auto"),
        *("--qemu-bin", str(parts.qemu), "--disable-microvm", "--force-9p"),
        *("--busybox", "/bin/busybox"),
        *("--cpus", str(parts.cpus), "--memory", f"{parts.memory_mib}M", "--user", "root"),
    ]
    if parts.accel != "kvm":
        argv.append("--disable-kvm")
    for option in kernel_options():
        argv += ["-a", option]
    script = shlex.join(["exec", "/bin/busybox", "sh", str(INSIDE / "start"), str(parts.run)])
    # As --script-sh would say it, without the six virtio-serial devices that come with that: we have our own.
    argv += ["-a", f"virtme.exec=`{b64encode(script.encode()).decode()}`", "--disable-monitor"]
    return [*argv, "--qemu-opts", *qemu_options(parts)]


def kernel_options() -> list[str]:
    """Kernel options. PATH: virtme-ng's init finds our stand-ins for what only costs time in a lab.

    hvc0 is virtme-run's console, hvc1 is ours. panic: a lab that panics ends.
    """
    return [
        *("console=hvc1", "panic=-1", "intel_iommu=on", "iommu=pt", "net.ifnames=0", *FAST_BOOT),
        f"PATH={INSIDE / 'path'}:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


# TCG makes one store a byte of `rep stosb` and `rep movsb`, which kernel and C library prefer to eight bytes
# at a time wherever a CPU says that it is good at them (ERMS, FSRM). On pages that held translated code each
# of these stores searches that page's translations: filling a guest's memory took four times as long.
_TCG_CPU = "max,-erms,-fsrm"


def qemu_options(parts: Parts) -> list[str]:
    """QEMU options beyond virtme-ng's own.

    -kernel: the last one counts. -nodefaults: without it the firmware spends half a minute on TCG
    looking for something to boot.
    """
    machine = [
        "-nodefaults",
        "-no-reboot",
        "-machine",
        "q35,kernel-irqchip=split",
        "-run-with",
        "exit-with-parent=on",
    ]
    if parts.accel == "tcg":
        machine += ["-accel", "tcg,thread=multi", "-cpu", _TCG_CPU]
    options = [
        "-kernel",
        str(parts.vmlinux),
        *machine,
        "-device",
        "intel-iommu,intremap=on",
        "-device",
        "virtio-serial-pci,id=ports",
    ]
    options += ["-chardev", f"file,id=lab-console,path={quoted(parts.run / 'console.log')}"]
    options += ["-device", "virtconsole,bus=ports.0,chardev=lab-console"]
    for name, fd in parts.ports.items():
        options += ["-chardev", f"socket,id=lab-{name},fd={fd}"]
        options += ["-device", f"virtserialport,bus=ports.0,name=cprtest.{name},chardev=lab-{name}"]
    shares = [("root", Path("/"), ",readonly=on")]
    shares += [(f"writable{number}", path, "") for number, path in enumerate(parts.writable)]
    for tag, path, mode in shares:
        share = f"local,id={tag},path={quoted(path)},security_model=none,multidevs=remap{mode}"
        options += ["-fsdev", share, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    for serial, path in parts.images:
        options += ["-blockdev", f"driver=file,node-name={serial},filename={quoted(path)},read-only=on"]
        options += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
    if parts.monitor:
        options += ["-qmp", f"unix:{quoted(parts.monitor)},server=on,wait=off"]
    return [*options, *parts.devices]


def quoted(path: Path) -> str:
    """A path as a value in a QEMU option, where a comma is written twice."""
    return str(path).replace(",", ",,")
