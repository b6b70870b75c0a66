# SPDX-License-Identifier: GPL-2.0-or-later
"""One commit: build it, run the test with it, and what that says."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cprtest.bisect.tree import Tree
from cprtest.errors import CprError
from cprtest.host.runs import Run
from cprtest.job import lane as lanes
from cprtest.job.prctl import set_subreaper
from cprtest.provision import installed, qemu
from cprtest.provision.qemu_source import LAB, build_of
from cprtest.report import merge
from cprtest.report.model import Result

NOT_BUILT = "not built"
"""The status of a commit that cannot be compiled."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a commit. status: a test's, or NOT_BUILT. building, testing: seconds."""

    commit: str
    subject: str
    status: str
    reason: str
    building: float
    testing: float
    evidence: str

    def __str__(self) -> str:
        took = f"built in {self.building:.0f} s"
        if self.status != NOT_BUILT:
            took += f", tested in {self.testing:.0f} s"
        because = f": {self.reason.splitlines()[0]}" if self.reason else ""
        return f'{self.commit} "{self.subject}" {self.status}{because} ({took})'


@dataclass(frozen=True)
class Bench:
    """Where commits are tried. tree: their work tree; work: for objects; evidence: for logs and results."""

    tree: Tree
    work: Path
    evidence: Path
    test: str
    lane: str

    def look(self) -> Seen:
        """Build the commit that is checked out, run the test. Raises CprError: it cannot be run."""
        commit = self.tree.commit("HEAD")
        directory = self.evidence / commit.ident
        clock = time.monotonic()
        try:
            binary = self._build(directory)
        except CprError as error:
            took = time.monotonic() - clock
            return Seen(commit.ident, commit.subject, NOT_BUILT, str(error), took, 0.0, str(directory))
        built = time.monotonic()
        result = self._test(binary, directory)
        return Seen(
            commit.ident,
            commit.subject,
            result.status,
            f"{result.defect}: {result.reason}" if result.defect else result.reason,
            built - clock,
            time.monotonic() - built,
            str(directory),
        )

    def _build(self, directory: Path) -> Path:
        """QEMU of the work tree. A build that fails in the objects of another commit is begun anew."""
        log = directory / "build.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        objects = self.work / "objects"
        fetched = (self.tree.path / "subprojects" / "keycodemapdb").is_dir()
        # Of all subprojects only that one is needed for certain; a tree without it fetches what it misses.
        goes_without = () if fetched else ("--disable-download",)
        arguments = [word for word in build_of(LAB).arguments if word not in goes_without]
        fresh = not objects.exists()
        try:
            qemu.compiled(self.tree.path, objects, arguments, "QEMU", log)
        except CprError:
            if fresh:
                raise
            shutil.rmtree(objects)
            qemu.compiled(self.tree.path, objects, arguments, "QEMU", log)
        return self._with_firmware(objects / qemu.TARGETS[0])

    def _with_firmware(self, program: Path) -> Path:
        """The program where it finds firmware: that of the tree, or of our own build if the tree has none."""
        own = self.tree.path / "pc-bios"
        firmware = own if (own / "bios-256k.bin").exists() else installed.qemu().parents[1] / "share" / "qemu"
        place = self.work / "qemu"
        shutil.rmtree(place, ignore_errors=True)
        (place / "bin").mkdir(parents=True)
        (place / "share" / "qemu").mkdir(parents=True)
        for blob in _blobs(firmware):
            shutil.copy2(blob, place / "share" / "qemu" / blob.name)
        return Path(shutil.copy2(program, place / "bin"))

    def _test(self, binary: Path, directory: Path) -> Result:
        set_subreaper()
        asked = {"qemu_bin": str(binary)}
        job = lanes.Job(self.lane, [lanes.exactly(self.test)], (), directory / self.lane, asked)
        with Run.start():
            ended = lanes.run([job])[0]
        if ended.interrupted:
            raise KeyboardInterrupt
        journal = merge.read_journal(job.directory)
        return merge.lane_results(ended, journal, [self.test], directory)[0]


def _blobs(firmware: Path) -> Iterator[Path]:
    for pattern in ("*.bin", "*.rom"):
        yield from firmware.glob(pattern)
