# SPDX-License-Identifier: GPL-2.0-or-later
"""A part of the guest's disk that is written, read, discarded and read again, without rest.

It has the part to itself, so whatever it reads there is its own data, or zeros after a discard. The judge
reads its reports, and at the end the image: the last thing that was done to the part is a discard.
"""

from pathlib import Path

from cprtest.guest.guest import Guest
from cprtest.workloads.history import Problem
from cprtest.workloads.parts import Part
from cprtest.workloads.workload import Workload, fail_with

# Descriptor 4 is the history port, inherited. What has failed is tried again after a rest. It is asked to end
# by a file: a signal would reach its children, too.
_SCRIPT = r"""#!/bin/sh
number=0
report() {
    read -r up _ </proc/uptime
    now=${up%.*}${up#*.}0000000
    echo "discards.0 $number ${since:-$now} $now $*" >&4
    number=$((number + 1)) since=$now
    [ "$1" = discard ] || usleep 100000
}
sum() {
    dd if=$device bs=256k count=$blocks iflag=direct 2>/dev/null | md5sum
}
device=$1 blocks=$2
dd if=/dev/urandom of=/tmp/data bs=256k count=$blocks 2>/dev/null
data=$(md5sum </tmp/data)
zeros=$(dd if=/dev/zero bs=256k count=$blocks 2>/dev/null | md5sum)
while [ ! -e /run/discards.end ]; do
    if ! dd if=/tmp/data of=$device bs=256k oflag=direct conv=fsync 2>/dev/null; then
        report unwritten
    elif [ "$(sum)" != "$data" ]; then
        report changed
    elif ! blkdiscard $device; then
        report refused
    elif [ "$(sum)" != "$zeros" ]; then
        report kept
    else
        report discard
    fi
done
report end
"""

_BLOCK = 256 << 10

_SAID = {
    "unwritten": "could not write",
    "changed": "read something else than it had written",
    "refused": "was not allowed to discard",
    "kept": "reads something else than zeros after a discard",
}


class Discards(Workload):
    """Discards of the whole of `part`, which nothing else may use."""

    name = "discards"
    program = "discards"

    def __init__(self, guest: Guest, part: Part) -> None:
        super().__init__(guest, 1)
        self._part = part
        guest.run(f"cat >/run/discards <<'EOF' && chmod 755 /run/discards\n{_SCRIPT}EOF\n")
        self.start(f"/run/discards {part.name} {part.size // _BLOCK}")

    def ask_to_end(self) -> None:
        """It ends when a round is done, with a discard."""
        self.guest.run("touch /run/discards.end")

    def judge(self) -> list[Problem]:
        """What went wrong in the guest."""
        return [
            Problem(
                f"{op.place}: the guest {_SAID[op.what]} ({self._part.name})",
                ("resume",) if op.transfer else (),
            )
            for op in self.operations()
            if op.what in _SAID
        ]

    def check_image(self, contents: Path) -> None:
        """Judge the disk's contents, a raw file, after QEMU has ended. Raises AssertionError."""
        fail_with(self.name, [*self.problems(), *self.judge_image(contents)])

    def judge_image(self, contents: Path) -> list[Problem]:
        """The first place in the part that is not zero."""
        with contents.open("rb") as file:
            file.seek(self._part.start)
            held = file.read(self._part.size)
        kept = len(held) - len(held.lstrip(b"\0"))
        if kept == self._part.size:
            return []
        at = self._part.start + kept
        return [Problem(f"byte {at:#x} of the image: not zero, though {self._part.name} was discarded")]
