# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test needs, what this host offers, and the sentence when they differ.

    @needs("vhost-net", "vfio:nvme", "qemu:vfio-cpr")
    class Everything(CprTest): ...

A need is a word, or a word and what it is about: kvm, root, lab, tun, userns, netns, vlan, macvtap,
vhost-net, vhost-vsock, vdpa, seccomp-notify, hugepages or hugepages:MIB, tracer, vfio, iommufd,
vfio:ROLE (or ADDRESS), wire:ROLE (such a NIC with its cable), module:NAME (a kernel module of ours),
memory:MIB, cpus:N, guest:ARCHITECTURE, qemu:WORD (feature, device or oldest version), build:FLAVOUR (a
QEMU of set-up's, whatever is under test), kernel:SUITE (for the guest).
Imported by every test process, so nothing heavy is imported until a need asks for it.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from cprtest.errors import CprError, NotInstalled, UsageError
from cprtest.paths import lane, or_in_lab

_T = TypeVar("_T")
_ATTRIBUTE = "cprtest_needs"

_Check = Callable[[str, Path | None], str | None]
"""Takes what the need is about and the QEMU under test; returns the reason why it is not met."""


def needs(*names: str) -> Callable[[_T], _T]:
    """Decorator of test classes and methods: they cancel where one of `names` is not met."""
    for name in names:
        _check_of(name)

    def declare(target: _T) -> _T:
        # A class's own declaration, not one it inherits: declared() adds up the inheritance.
        setattr(target, _ATTRIBUTE, (*vars(target).get(_ATTRIBUTE, ()), *names))
        return target

    return declare


def declared(test: type, method: str) -> list[str]:
    """The needs of a test method: its own, its class's, and those of the classes above."""
    owners = [*reversed(test.__mro__), getattr(test, method)]
    return list(dict.fromkeys(name for owner in owners for name in vars(owner).get(_ATTRIBUTE, ())))


def unmet(names: Iterable[str], qemu: Path | None = None) -> list[str]:
    """One sentence for every need that this host, or `qemu`, does not meet: what is missing, how to get it.

    Raises CprError for a need that does not exist, and UsageError when `qemu` cannot be used at all.
    """
    judged = ((name, _check_of(name)(name.partition(":")[2], qemu)) for name in names)
    return [f"{name}: {reason}" for name, reason in judged if reason]


def _check_of(name: str) -> _Check:
    word, colon, about = name.partition(":")
    check = (_CHECKS_ABOUT if colon else _CHECKS).get(word)
    if check is None or (colon and not about):
        known = [*_CHECKS, *(f"{word}:..." for word in _CHECKS_ABOUT)]
        raise CprError(f"There is no need called {name!r}. Known are {', '.join(known)}.")
    return check


def _device(path: str, how: str) -> _Check:
    def check(_about: str, _qemu: Path | None) -> str | None:
        if not Path(path).exists():
            return f"{path} is missing. {or_in_lab(how)}"
        if not os.access(path, os.R_OK | os.W_OK):
            return f"{path} may not be opened by this user. {or_in_lab(f'Ask for access to {path}')}"
        return None

    return check


def _kvm(_about: str, qemu: Path | None) -> str | None:
    from cprtest.host import kvm  # noqa: PLC0415
    from cprtest.machine.features import features  # noqa: PLC0415

    try:
        if qemu is not None and not features(qemu).has("kvm"):
            return f"{qemu} was built without KVM. Give one that has it."
    except UsageError as error:
        return str(error)
    return kvm.unusable(None)  # asked with the lab's QEMU: an answer takes up to a minute, and is kept


def _root(_about: str, _qemu: Path | None) -> str | None:
    return None if os.geteuid() == 0 else or_in_lab("This user is not root. Run as root")


def _lab(_about: str, _qemu: Path | None) -> str | None:
    return None if lane() == "lab" else or_in_lab("It changes the whole host, so not this one")


def _userns(_about: str, _qemu: Path | None) -> str | None:
    import subprocess  # noqa: PLC0415

    argv = ["unshare", "--user", "--map-root-user", "true"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return None
    switches = "user.max_user_namespaces, kernel.unprivileged_userns_clone"
    return f"{tried.stderr.strip()}. {or_in_lab(f'Allow user namespaces (sysctl {switches})')}"


def _netns(_about: str, _qemu: Path | None) -> str | None:
    from cprtest.host.namespace import Namespace  # noqa: PLC0415

    try:
        Namespace().close()
    except CprError as error:
        return str(error)
    return None


def _vlan(_about: str, _qemu: Path | None) -> str | None:
    from cprtest.host.network import Network  # noqa: PLC0415

    try:
        with Network() as network:
            network.tap()  # lo takes none
            network.vlan("tap0", 1, "127.1.0.1/24")
    except CprError as error:
        how = or_in_lab("Load the module: modprobe 8021q")
        return f"No VLAN interface can be made here ({str(error).rstrip('.')}). {how}"
    return None


def _seccomp_notify(_about: str, _qemu: Path | None) -> str | None:
    from cprtest.host import seccomp  # noqa: PLC0415

    return seccomp.unusable()


def _hugepages(mib: str, _qemu: Path | None) -> str | None:
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    free = int(pool.read_text()) if pool.exists() else 0
    wanted = (int(mib) + 1) // 2 if mib else 1
    if free < wanted:
        how = or_in_lab(f"Reserve some: sysctl vm.nr_hugepages={max(512, wanted)}")
        return f"There are {free or 'no'} free 2 MiB pages, {wanted} are needed. {how}"
    return None


def _memory(mib: str, _qemu: Path | None) -> str | None:
    from cprtest.host import hostfile  # noqa: PLC0415
    from cprtest.host.memory import available_mib  # noqa: PLC0415

    available, allowed = available_mib(), hostfile.current().memory_mib
    if allowed is not None and allowed < int(mib):
        return f"{mib} MiB are needed, and the host file allows {allowed}. Raise its memory_mib."
    if available < int(mib):
        return f"{mib} MiB are needed, {available} MiB are available. End other programs, or add memory."
    return None


def _cpus(count: str, _qemu: Path | None) -> str | None:
    from cprtest.host import hostfile  # noqa: PLC0415

    available, allowed = len(os.sched_getaffinity(0)), hostfile.current().cpus
    if allowed is not None and allowed < int(count):
        return f"{count} CPUs are needed, and the host file allows {allowed}. Raise its cpus."
    if available < int(count):
        return f"{count} CPUs are needed, and there are {available}. Run on a machine that has them."
    return None


def _tun(about: str, qemu: Path | None) -> str | None:
    from cprtest.host import hostfile  # noqa: PLC0415

    if not hostfile.current().taps:
        return "The host file allows no taps (taps: false)."
    return _device("/dev/net/tun", "Load it: modprobe tun")(about, qemu)


def _macvtap(_about: str, _qemu: Path | None) -> str | None:
    from cprtest.host.network import Network  # noqa: PLC0415

    if reason := _tun("", None) or _root("", None):
        return reason
    try:
        with Network() as network:
            network.macvtap("macvtap0", "52:54:00:63:70:00", 1, "10.99.0.1/24")
    except (CprError, OSError) as error:
        how = or_in_lab("Load it: modprobe macvtap")
        return f"A macvtap cannot be made here: {str(error).rstrip('.')}. {how}"
    return None


def _vdpa(_about: str, _qemu: Path | None) -> str | None:
    from cprtest.host import hostfile  # noqa: PLC0415

    nodes = hostfile.current().vdpa
    if not nodes:
        return (
            "The host file lists no vDPA device (vdpa: [/dev/vhost-vdpa-0]). Run on a machine that has one."
        )
    return _device(str(nodes[0]), "Make it: vdpa dev add, modprobe vhost_vdpa")("", None)


def _guest(architecture: str, qemu: Path | None) -> str | None:
    from cprtest.machine.features import features  # noqa: PLC0415
    from cprtest.provision.installed import ARCHITECTURE  # noqa: PLC0415

    if architecture != ARCHITECTURE:
        return f"The guest's kernel and image are made for {ARCHITECTURE} only (docs/hardware.md)."
    if qemu is not None and features(qemu).architecture != architecture:
        return f"{qemu} is a QEMU for {features(qemu).architecture}; one for {architecture} is needed."
    return None


def _tracer(_about: str, _qemu: Path | None) -> str | None:
    from cprtest.host import tracing  # noqa: PLC0415

    reason = tracing.unusable()
    return or_in_lab(reason.rstrip(".")) if reason else None


def _vfio(_about: str, _qemu: Path | None) -> str | None:
    groups = Path("/sys/kernel/iommu_groups")
    if not groups.is_dir() or not any(groups.iterdir()):
        how = "Switch the IOMMU on (firmware set-up, and intel_iommu=on on the kernel command line)"
        return f"There are no IOMMU groups. {or_in_lab(how)}"
    return _device("/dev/vfio/vfio", "Load it: modprobe vfio-pci")("", None)


def _iommufd(_about: str, qemu: Path | None) -> str | None:
    from cprtest.machine.features import features  # noqa: PLC0415

    if qemu is not None and not features(qemu).has("iommufd"):
        return f"{qemu} was built without iommufd. Give one that has it."
    return _device("/dev/iommu", "A kernel with CONFIG_IOMMUFD and VFIO_DEVICE_CDEV has it")("", None)


def _vfio_role(role: str, qemu: Path | None) -> str | None:
    from cprtest.host.hostfile import VARIABLE, allowed_devices  # noqa: PLC0415

    devices = allowed_devices()
    if not any(role in (device.role, device.address) for device in devices):
        roles = {device.role for device in devices}
        listed = f"lists {', '.join(sorted(roles))}" if roles else f"is missing ({VARIABLE} names it)"
        how = f'Give a device with the role or address "{role}" to the tests there'
        return f"The host file {listed}. {or_in_lab(how)}"
    return _vfio("", qemu)


def _wire(role: str, _qemu: Path | None) -> str | None:
    from cprtest.host.hostfile import allowed_devices  # noqa: PLC0415

    if any(device.wire for device in allowed_devices() if role in (device.role, device.address)):
        return None
    how = or_in_lab("Connect it to a NIC of this host, and list that")
    return f'The host file lists no "{role}" with a wire. {how}'


def _module(name: str, _qemu: Path | None) -> str | None:
    from cprtest.provision import installed  # noqa: PLC0415

    try:
        running, built = os.uname().release, installed.kernel().release
        if running != built:
            return or_in_lab(f"{name} is built for kernel {built}, this one is {running}. Boot that one")
        installed.module(name)
    except NotInstalled as error:
        return str(error)
    return None


def _qemu(word: str, qemu: Path | None) -> str | None:
    from cprtest.machine.features import features  # noqa: PLC0415

    if qemu is None:
        raise CprError(f"The need qemu:{word} can only be judged with a QEMU binary.")
    found = features(qemu)
    if found.has(word):
        return None
    wanted = f"Version {word} or newer" if word[0].isdecimal() else f"A build with {word}"
    return f"{qemu} is QEMU {found.text}. {wanted} is needed (scripts/run --qemu)."


def _build(flavour: str, _qemu: Path | None) -> str | None:
    from cprtest.provision import installed  # noqa: PLC0415

    try:
        installed.qemu(flavour)
    except CprError as error:
        return str(error)
    return None


def _kernel(suite: str, _qemu: Path | None) -> str | None:
    from cprtest.provision import installed  # noqa: PLC0415

    try:
        installed.guest_image(suite)
    except CprError as error:
        return str(error)
    return None


_CHECKS: dict[str, _Check] = {
    "kvm": _kvm,
    "root": _root,
    "lab": _lab,
    "userns": _userns,
    "netns": _netns,
    "vlan": _vlan,
    "tun": _tun,
    "macvtap": _macvtap,
    "vhost-net": _device("/dev/vhost-net", "Load it: modprobe vhost_net"),
    "vhost-vsock": _device("/dev/vhost-vsock", "Load it: modprobe vhost_vsock"),
    "vdpa": _vdpa,
    "seccomp-notify": _seccomp_notify,
    "hugepages": _hugepages,
    "tracer": _tracer,
    "vfio": _vfio,
    "iommufd": _iommufd,
}
_CHECKS_ABOUT: dict[str, _Check] = {
    "vfio": _vfio_role,
    "wire": _wire,
    "module": _module,
    "memory": _memory,
    "hugepages": _hugepages,
    "cpus": _cpus,
    "guest": _guest,
    "qemu": _qemu,
    "build": _build,
    "kernel": _kernel,
}
NAMES = tuple(_CHECKS)
"""The needs that stand by themselves, for scripts/doctor."""
