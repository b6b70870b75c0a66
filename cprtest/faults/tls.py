# SPDX-License-Identifier: GPL-2.0-or-later
"""The main channel by TLS, with a pre-shared key: its faults, and credentials that do not fit.

The handshake is a step of its own: it comes after connect(), before the migration's thread, and waits for the
other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cprtest.faults.fault import Fault
from cprtest.faults.main_channel import Recorded

if TYPE_CHECKING:
    from pathlib import Path

    from cprtest.machine.process import Machine
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer

_USER = "qemu"  # the name that QEMU's client gives by default
KEY, OTHER_KEY = "c0ffee" * 8, "facade" * 8
_HANDSHAKE = b"\x16\x03"
"""What a TLS connection begins with: a record of the handshake, the version (RFC 8446, 5.1)."""


class Encrypted(Fault):
    """Both sides are set to TLS, and then `fault` strikes.

    source, target: the key of each, None for a side that is not set to TLS.
    """

    def __init__(self, fault: Fault, source: str | None = KEY, target: str | None = KEY) -> None:
        self.name = f"tls-{fault.name}"
        self.breaks, self.phase, self.side = fault.breaks, fault.phase, fault.side
        self._fault = fault
        self._keys = {"source": source, "target": target}
        self._set: list[Machine] = []

    def arm(self, transfer: Transfer) -> None:
        """The target gets its key by its command line: its monitor does not answer before the hand-over."""
        if (key := self._keys["target"]) is not None:
            made = credentials(transfer.scratch, "target", key)
            words = [f"{name}={value}" for name, value in made.items() if name != "qom-type"]
            transfer.plan.extra += ["-object", ",".join([made["qom-type"], *words])]
            transfer.plan.extra += ["-global", f"migration.tls-creds={made['id']}"]
        self._fault.arm(transfer)

    def ready(self, transfer: Transfer) -> None:
        """The source gets its own by its monitor."""
        self._set = [transfer.target]
        if (key := self._keys["source"]) is not None:
            made = credentials(transfer.scratch, "source", key)
            transfer.source.qmp.command("object-add", **made)
            transfer.source.qmp.command("migrate-set-parameters", tls_creds=made["id"])
            self._set.append(transfer.source)
        self._fault.ready(transfer)

    def strike(self, transfer: Transfer) -> None:
        """As the fault does."""
        self._fault.strike(transfer)

    def undo(self, transfer: Transfer) -> None:
        """As the fault does."""
        self._fault.undo(transfer)

    def close(self) -> None:
        """Who has the guest now takes part in other transfers, without TLS."""
        self._fault.close()
        for machine in self._set:
            _without_tls(machine)
        self._set = []

    def confirm(self, outcome: Outcome) -> None:
        """As the fault does."""
        self._fault.confirm(outcome)
        if self._fault.struck_at is not None:
            self.struck(self._fault.evidence, self._fault.struck_at)


class Handshake(Recorded):
    """Nothing goes wrong but by the credentials of the two sides; `name` says how they fit.

    plain: the source has none. What it sends first is seen to be TLS, or not to be.
    """

    breaks = "the credentials of the two sides"

    def __init__(self, name: str = "handshake", *, plain: bool = False) -> None:
        self.name = name
        self._plain = plain

    def confirm(self, outcome: Outcome) -> None:
        """The source began as it had been told."""
        begun = bytes(self.relay.forward.recorded[:2])
        if begun and (begun == _HANDSHAKE) is not self._plain:
            self.struck(f"the source's first bytes were {begun.hex()}", outcome.since)


class NoCredentials(Fault):
    """The source is told to use credentials that it does not have."""

    name = "tls-no-such-credentials"
    breaks = "the source's credentials"
    phase = "stream"
    side = "source"

    def ready(self, transfer: Transfer) -> None:
        """Name what there is not."""
        self._source = transfer.source
        transfer.source.qmp.command("migrate-set-parameters", tls_creds="nonesuch")

    def close(self) -> None:
        """Take it back."""
        if hasattr(self, "_source"):
            _without_tls(self._source)

    def confirm(self, outcome: Outcome) -> None:
        """The source says that it has none of that name."""
        if "nonesuch" in outcome.error:
            self.struck(f"the source says: {outcome.error}", outcome.since)


def _without_tls(machine: Machine) -> None:
    if machine.run_state():
        machine.qmp.command("migrate-set-parameters", tls_creds="")


def credentials(directory: Path, side: str, key: str) -> dict[str, Any]:
    """A side's object with `key`, hexadecimal digits; the file of keys is made below `directory`."""
    place = directory / f"keys-of-the-{side}"
    place.mkdir()
    (place / "keys.psk").write_text(f"{_USER}:{key}\n")
    (place / "keys.psk").chmod(0o600)
    return {
        "qom-type": "tls-creds-psk",
        "id": f"tls-{side}-{directory.name}",  # a QEMU takes part in several transfers
        "dir": str(place),
        "endpoint": "client" if side == "source" else "server",
    }
