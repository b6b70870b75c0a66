# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk journal: what the guest was told is durable is in the image, whole, and nothing else is.

Writers in the guest (assets/guest/disk-journal.c) append numbered records with O_DIRECT and fdatasync, and
report each one that was acknowledged over the history port, which is not the disk. The judge reads the
reports and the image.
"""

import mmap
import secrets
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cprtest.guest.guest import Guest
from cprtest.machine.devices import Disk
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.parts import Part, whole
from cprtest.workloads.weighted import weighted
from cprtest.workloads.workload import Workload, fail_with

# The form of a record; the same figures are in disk-journal.c.
_SLOT = 16384
_SECTOR = 512
_MAGIC = 0x4A4F55524E414C31
_HEADER = struct.Struct("<5Q")


class DiskJournal(Workload):
    """`writers` journals on the guest's disk, or `part` of it. `pause_us`: of rest after each record."""

    name = "disk"
    program = "disk-journal"

    def __init__(
        self, guest: Guest, writers: int = 3, pause_us: int = 2000, part: Part | None = None
    ) -> None:
        super().__init__(guest, writers)
        self.disk = next(device for device in guest.spec.devices if isinstance(device, Disk))
        self._part = part or whole(guest, self.disk)
        self._run = secrets.randbits(32)
        self.start(f"disk-journal {self._part.name} {writers} {self._run} {pause_us}")

    def judge(self) -> list[Problem]:
        """What the guest itself found when it read records back, and writes that failed."""
        said = {
            "failed": "could not write record",
            "unread": "could not read record",
            "changed": "read something else than it had written as record",
        }
        return [
            Problem(f"{op.place}: the guest {said[op.what]} {' '.join(op.result[1:])}", self.stalls)
            for op in self.operations()
            if op.what in said
        ]

    def offset(self, writer: int, number: int) -> int:
        """Where record `number` of `writer` is on the disk, in bytes."""
        return self._place(writer, number % self._slots)

    @property
    def _slots(self) -> int:
        """Of each writer."""
        return self._part.size // _SLOT // self.reporters

    def _place(self, writer: int, slot: int) -> int:
        """Where a slot is on the disk, in bytes."""
        return self._part.start + (writer * self._slots + slot) * _SLOT

    def last(self, writer: int) -> int:
        """The number of the last record of `writer` that was acknowledged, -1 for none."""
        numbers = (int(op.result[1]) for op in self.operations("ack") if op.who == f"{self.name}.{writer}")
        return max(numbers, default=-1)

    @property
    def lasts(self) -> list[int]:
        """`last` of each writer, by now."""
        return [self.last(writer) for writer in range(self.reporters)]

    def forged(self, writer: int, number: int) -> bytes:
        """The beginning of a record as `writer` would have made it, for a test of this checker."""
        stamp = self._run << 32 | writer << 24 | number
        return _HEADER.pack(stamp, _MAGIC, number, _SECTOR, 0)

    def check_image(self, contents: Path) -> None:
        """Judge the disk's contents, a raw file, after QEMU has ended. Raises AssertionError."""
        fail_with(self.name, [*self.problems(), *self.judge_image(contents)])

    def check_snapshot(self, contents: Path, before: Sequence[int], after: Sequence[int]) -> None:
        """Judge the disk as it was at an instant between two at which `lasts` was `before` and `after`.

        Of each writer there are all records up to one between these, or the next, which may have been on its
        way, and none later. Raises AssertionError.
        """
        with _mapped(contents) as image:
            lasts = [
                self._newest(image, writer, *span)
                for writer, span in enumerate(zip(before, after, strict=True))
            ]
        fail_with(self.name, self.judge_image(contents, lasts))

    def judge_image(self, contents: Path, lasts: Sequence[int] | None = None) -> list[Problem]:
        """Everything that is in the image and should not be, or should be and is not.

        lasts: the last record of each writer that should be there, if not all.
        """
        with _mapped(contents) as image:
            end = self._place(self.reporters - 1, self._slots - 1) + _SLOT
            if len(image) < end:
                return [Problem(f"the image ends at byte {len(image):#x}, and the disk's part at {end:#x}")]
            return [
                problem
                for writer, last in enumerate(lasts or self.lasts)
                for problem in self._judge_writer(writer, last, image)
            ]

    def _newest(self, image: mmap.mmap, writer: int, earliest: int, latest: int) -> int:
        """The last of a writer's records that is in the image, from `earliest` to the one after `latest`."""
        for number in range(latest + 1, earliest, -1):
            at = self.offset(writer, number)
            found = _Record.read(image[at : at + _SLOT])
            if found.magic and found.number == number:
                return number
        return earliest

    def _judge_writer(self, writer: int, last: int, image: mmap.mmap) -> Iterator[Problem]:
        slots = self._slots
        who = f"{self.name}.{writer}"
        acknowledged = [op for op in self.operations("ack") if op.who == who]
        numbers = {int(op.result[1]): op for op in acknowledged}
        # At the end of a history that was cut off, one record may be on its way.
        ended = any(op.who == who for op in self.operations("end"))
        for slot in range(slots):
            at = self._place(writer, slot)
            found = _Record.read(image[at : at + _SLOT])
            newest = last - (last - slot) % slots
            if not ended and (last + 1) % slots == slot:
                continue
            wrong = self._compare(found, newest if newest >= 0 else None, writer, last)
            if wrong:
                where = f"byte {at:#x} of the image"
                yield self._problem(wrong, where, numbers.get(newest))

    def _problem(self, wrong: str, where: str, lost: Operation | None) -> Problem:
        """Place it: a record acknowledged last before a transfer was still on its way when the VM stopped."""
        if lost is None:
            return Problem(f"{where}: {wrong}")
        later = [op for op in self.operations("ack") if op.who == lost.who and op.number > lost.number]
        flushed = later and later[0].transfer > lost.transfer
        phases = ("stop",) if flushed else ()
        return Problem(f"{where}: {wrong}, acknowledged as {lost.place}", phases)

    def _compare(self, found: "_Record", newest: int | None, writer: int, last: int) -> str:
        """What is wrong with the record `found` in a slot where `newest` should be; "" for nothing."""
        if found.empty:
            return "" if newest is None else f"record {newest} of writer {writer} is missing"
        if found.magic and (found.run, found.writer) != (self._run, writer):
            return f"a foreign record (run {found.run}, writer {found.writer}) is where {newest} should be"
        if found.magic and found.number > last:
            return f"record {found.number} of writer {writer} is from the future: {last} was the last one"
        if found.number != newest:
            return f"record {found.number} of writer {writer} is where record {newest} should be"
        if not found.whole:
            return f"record {newest} of writer {writer} is torn: {found.damage}"
        return ""


@contextmanager
def _mapped(contents: Path) -> Iterator[mmap.mmap]:
    with contents.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        yield image


class _Record:
    """What a slot holds."""

    def __init__(self, data: bytes) -> None:
        stamp, magic, self.number, length, total = _HEADER.unpack_from(data)
        self.empty = not any(data[:_SECTOR])
        self.magic = magic == _MAGIC
        self.run, self.writer = stamp >> 32, stamp >> 24 & 0xFF
        if not self.magic:
            self.number = stamp & 0xFFFFFF
        size = length if 0 < length <= _SLOT and length % _SECTOR == 0 else _SECTOR
        body = data[:32] + bytes(8) + data[40:size]
        self.whole = self.magic and weighted(body) == total
        self.damage = self._damage(data[:size], stamp)

    @classmethod
    def read(cls, data: bytes) -> "_Record":
        """The record in the slot `data`."""
        return cls(data)

    @staticmethod
    def _damage(data: bytes, stamp: int) -> str:
        """Where it is damaged, if sectors of it are another's."""
        for at in range(0, len(data), _SECTOR):
            sector = data[at : at + _SECTOR]
            if not any(sector):
                return f"sector {at // _SECTOR} is zero"
            (found,) = struct.unpack_from("<Q", sector)
            if found != stamp:
                return f"sector {at // _SECTOR} is of record {found & 0xFFFFFF}"
        return "its sum is wrong"
