# SPDX-License-Identifier: GPL-2.0-or-later
"""What a QEMU whose guest does not answer looks like: the vCPUs, their interrupts, the process's threads."""

import time
from pathlib import Path

from cprtest.errors import CprError
from cprtest.limits import stretched
from cprtest.machine.process import Machine

_ASKED = ("info status", "info registers -a", "info lapic", "info irq", "info pic")
_APART = 0.5
"""Seconds, stretched: a vCPU that stands has the same registers in both looks."""


def write(machine: Machine, file: Path) -> None:
    """Write two looks at `machine` to `file`. Says in the file what could not be had; raises nothing."""
    looks = [_look(machine)]
    time.sleep(stretched(_APART))
    looks.append(_look(machine))
    file.write_text("\n\n".join(looks) + "\n")


def _look(machine: Machine) -> str:
    lines = [f"== {time.monotonic():.3f} s, process {machine.pid}"]
    for task in sorted(Path(f"/proc/{machine.pid}/task").glob("*")):
        try:
            stat = (task / "stat").read_text(errors="replace")
            name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
            waits = (task / "wchan").read_text() or "-"
            lines.append(f"{task.name} {name}: state {rest[0]}, {rest[11]}+{rest[12]} ticks, in {waits}")
        except (OSError, ValueError) as error:
            lines.append(f"{task.name}: {error}")
    for asked in _ASKED:
        try:
            said = machine.qmp.command("human-monitor-command", command_line=asked)
        except CprError as error:
            said = str(error)
        lines += [f"-- {asked}", str(said).replace("\r", "").rstrip()]
    return "\n".join(lines)
