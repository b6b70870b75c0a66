# SPDX-License-Identifier: GPL-2.0-or-later
"""Images: locked by somebody else when the source wants them back, gone, or failing to flush at the stop."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cprtest.faults.fault import Fault
from cprtest.faults.stations import Action, Station

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer

# QEMU's locks are single bytes from 100 (its uses) and 200 (what it lets nobody do) on: block/file-posix.c.
_LOCKS = (100, 200)


class Lock:
    """Somebody else's lock on an image: nobody may use it meanwhile."""

    def __init__(self, image: Path) -> None:
        self._fd = os.open(image, os.O_RDWR)
        # struct flock: type, whence, start, length, pid (fcntl(2), open file description locks)
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCKS[0], _LOCKS[1], 0)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, wanted)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give it back. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ImageLocked(Action):
    """Somebody else locks an image while neither side has it. cut: the main channel breaks, too."""

    breaks = "the way back: the image is locked by somebody else"
    side = "source"

    def __init__(self, image: Path, name: str = "image-locked", *, cut: bool = True) -> None:
        self.name = name
        self._image = image
        self._cut = cut
        self.lock: Lock | None = None

    def act(self, transfer: Transfer, station: Station) -> str:
        """Lock it and cut. The lock stays until `release()`."""
        self.lock = Lock(self._image)
        if self._cut:
            station.relay.cut()
        cut = "; the main channel was cut" if self._cut else ""
        return f"{self._image.name} was free, and was locked by the test{cut}"

    def release(self) -> None:
        """Unlock it. Safe to call twice."""
        if self.lock:
            self.lock.release()


class ImageRemoved(Action):
    """The image's name is removed while neither side has it, and the main channel breaks."""

    name = "image-removed"
    breaks = "the image's name"
    side = "source"

    def __init__(self, image: Path) -> None:
        self._image = image

    def act(self, transfer: Transfer, station: Station) -> str:
        """Move it away and cut."""
        self._image.rename(self._image.with_suffix(".away"))
        station.relay.cut()
        return "the image was moved away; the main channel was cut"

    def undo(self, transfer: Transfer) -> None:
        """Move it back."""
        away = self._image.with_suffix(".away")
        if away.exists():
            away.rename(self._image)


class FlushFails(Fault):
    """Flushing the disk fails when the VM is stopped: blkdebug answers with EIO."""

    name = "flush-fails-at-stop"
    breaks = "the disk's flush at the stop"
    phase = "stop"
    side = "source"

    def __init__(self, disk: str = "disk0") -> None:
        self._disk = disk

    def install(self, qmp: Any) -> None:
        """Put blkdebug between the device and its node; flushes of what is written from now on fail."""
        error = {"event": "none", "iotype": "flush", "errno": 5, "once": False}
        qmp.command(
            "blockdev-add",
            **{
                "driver": "blkdebug",
                "node-name": "debug",
                "image": f"{self._disk}-node",
                "inject-error": [error],
            },
        )
        self._insert(qmp, "debug")

    def _insert(self, qmp: Any, node: str) -> None:
        path = f"/machine/peripheral/{self._disk}/virtio-backend"
        qmp.command("qom-set", path=path, property="drive", value=node)

    def undo(self, transfer: Transfer) -> None:
        """Take it out again."""
        qmp = transfer.source.qmp
        if not transfer.source.run_state():
            return
        nodes = {entry["node-name"] for entry in qmp.command("query-named-block-nodes")}
        if "debug" in nodes:
            self._insert(qmp, f"{self._disk}-node")
            qmp.command("blockdev-del", node_name="debug")

    def confirm(self, outcome: Outcome) -> None:
        """The stop came back with an error."""
        stop = outcome.first("source", "migration_cpr_stop", "ret -5") or outcome.first(
            "source", "migration_completion_vm_stop", "-5"
        )
        if stop:
            self.struck(f"the source traced {stop.name} {stop.data['text']}", stop.t)
