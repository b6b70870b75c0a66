# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls of a QEMU: one fails, comes late, or does not come back until the user has cancelled.

The syscall gate is handed in: a fault knows of it only what `Gatekeeper` says (the observer that the test
has put in front of QEMU is one).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from cprtest.faults.fault import Fault

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.timeline.event import Event
    from cprtest.transfer import Transfer

_RING = (errno.EINVAL, errno.EFAULT, errno.ENOBUFS)

ERRORS: dict[str, tuple[int, ...]] = {
    # unix(7), sendmsg(2), and what a full or limited peer answers
    "SCM_RIGHTS": (errno.EPIPE, errno.ECONNRESET, errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS),
    # fs/fcntl.c, setfl()
    "F_SETFL": (errno.EPERM, errno.EINVAL),
    # drivers/net/tun.c
    "TUNSETIFF": (errno.EBUSY, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.ENOMEM),
    "TUNSETQUEUE": (errno.EINVAL, errno.EPERM, errno.EBUSY, errno.E2BIG),
    "TUNSETOFFLOAD": (errno.EINVAL, errno.EBADFD),
    "TUNSETVNETHDRSZ": (errno.EINVAL, errno.EFAULT, errno.EBADFD),
    # drivers/vhost/vhost.c
    "VHOST_SET_OWNER": (errno.EBUSY, errno.ENOMEM, errno.EPERM),
    "VHOST_RESET_OWNER": (errno.EPERM, errno.ENOMEM, errno.EFAULT),
    "VHOST_SET_FEATURES": (errno.EOPNOTSUPP, errno.EFAULT, errno.EBUSY),
    "VHOST_SET_MEM_TABLE": (errno.EFAULT, errno.ENOMEM, errno.E2BIG, errno.EOPNOTSUPP),
    "VHOST_SET_VRING_NUM": (errno.EBUSY, *_RING),
    "VHOST_SET_VRING_ADDR": (errno.EOPNOTSUPP, *_RING),
    "VHOST_SET_VRING_BASE": (errno.EBUSY, *_RING),
    "VHOST_GET_VRING_BASE": (errno.EFAULT, errno.ENOBUFS),
    "VHOST_SET_VRING_KICK": (errno.EBADF, *_RING),
    "VHOST_SET_VRING_CALL": (errno.EBADF, *_RING),
    "VHOST_SET_VRING_ERR": (errno.EBADF, *_RING),
    "VHOST_SET_VRING_ENDIAN": (errno.EBUSY, *_RING),
    "VHOST_SET_VRING_BUSYLOOP_TIMEOUT": _RING,
    # drivers/vhost/net.c, vsock.c
    "VHOST_NET_SET_BACKEND": (errno.ENOBUFS, errno.ENOTSOCK, errno.EFAULT, errno.ENOMEM),
    "VHOST_VSOCK_SET_GUEST_CID": (errno.EADDRINUSE, errno.EINVAL),
    "VHOST_VSOCK_SET_RUNNING": (errno.EFAULT, errno.EPERM, errno.ENOMEM),
    # drivers/vfio
    "VFIO_DEVICE_RESET": (errno.EINVAL, errno.ENOTTY, errno.EAGAIN),
    "VFIO_DEVICE_PCI_HOT_RESET": (errno.EINVAL, errno.ENODEV, errno.EAGAIN, errno.ENOTTY),
    "VFIO_IOMMU_MAP_DMA": (errno.ENOMEM, errno.EEXIST, errno.EINVAL, errno.ENOSPC),
    "VFIO_IOMMU_UNMAP_DMA": (errno.EINVAL, errno.ENOENT),
    # virt/kvm/kvm_main.c
    "KVM_CREATE_VM": (errno.ENOMEM, errno.EBUSY, errno.EINVAL),
}
"""What the kernel can answer to each call."""

_PHASES = {
    ("SCM_RIGHTS", "source"): "handover",
    ("F_SETFL", "source"): "stream",
    ("VHOST_RESET_OWNER", "source"): "release",
    ("VHOST_SET_OWNER", "source"): "rollback",
    ("VHOST_NET_SET_BACKEND", "target"): "resume",
}


class Rule(Protocol):
    """What the gate does to a call."""

    @property
    def events(self) -> Sequence[Event]:
        """The calls that it was done to."""

    def cancel(self) -> None:
        """Do it to no more calls."""


class Hold(Rule, Protocol):
    """A call that is parked in the kernel."""

    def wait(self, seconds: float = 10) -> Event:
        """Wait until one is."""

    def release(self, error: int = 0) -> None:
        """Let it go on, or fail."""


class Gatekeeper(Protocol):
    """Who can do something to a call; as cprtest.observe.gate.Gate."""

    def fail(self, call: str, error: int, *, actor: str | None = None, nth: int | None = 1) -> Rule:
        """Let it fail."""

    def delay(self, call: str, seconds: float, *, actor: str | None = None, nth: int | None = 1) -> Rule:
        """Do it later."""

    def hold(self, call: str, *, actor: str | None = None, nth: int | None = 1) -> Hold:
        """Park it."""


class _Call(Fault):
    """Something about the `nth` call (None: each) of a name that a side makes once the fault is armed."""

    def __init__(self, gate: Gatekeeper, side: str, call: str, nth: int | None, what: str) -> None:
        self._gate = gate
        self._call = call
        self._nth = nth
        self.side = side
        self.phase = _PHASES.get((call, side), "stop" if side == "source" else "acquire")
        self.name = f"{side}-{call}-{nth or 'each'}-{what}"
        self.breaks = f"the {side}'s {call}"
        self._rule: Rule | None = None

    def _made(self) -> Rule:
        raise NotImplementedError

    def arm(self, transfer: Transfer) -> None:
        """Tell the gate."""
        self._rule = self._made()

    def close(self) -> None:
        """Let all further calls through."""
        if self._rule:
            self._rule.cancel()

    def confirm(self, outcome: Outcome) -> None:
        """The gate had the call."""
        for event in self._rule.events[:1] if self._rule else ():
            self.struck(f"the gate had {event.name} of the {event.actor}: {event.data}", event.t)


class CallFails(_Call):
    """A call is not done and fails with errno `error`."""

    def __init__(self, gate: Gatekeeper, side: str, call: str, error: int, nth: int | None = 1) -> None:
        super().__init__(gate, side, call, nth, errno.errorcode[error])
        self._error = error

    def _made(self) -> Rule:
        return self._gate.fail(self._call, self._error, actor=self.side, nth=self._nth)


class CallLate(_Call):
    """A call is done `seconds` later than it was made."""

    def __init__(self, gate: Gatekeeper, side: str, call: str, seconds: float, nth: int | None = 1) -> None:
        super().__init__(gate, side, call, nth, f"{seconds * 1000:g}-ms-late")
        self._seconds = seconds

    def _made(self) -> Rule:
        return self._gate.delay(self._call, self._seconds, actor=self.side, nth=self._nth)


class CallHeld(_Call):
    """A call of the target does not come back; the user cancels; then it does."""

    def __init__(self, gate: Gatekeeper, call: str, nth: int | None = 1) -> None:
        super().__init__(gate, "target", call, nth, "held-cancelled")

    def _made(self) -> Hold:
        self._hold = self._gate.hold(self._call, actor=self.side, nth=self._nth)
        return self._hold

    def strike(self, transfer: Transfer) -> None:
        """Cancel while the target is parked in the kernel."""
        event = self._hold.wait()
        self.struck(f"the target was held in {event.name}, {event.data}", event.t)
        transfer.source.qmp.command("migrate_cancel")

    def undo(self, transfer: Transfer) -> None:
        """Let it go on."""
        self.close()
