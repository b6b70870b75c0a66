# SPDX-License-Identifier: GPL-2.0-or-later
"""The main channel through programs (exec:): a channel of one direction, which ends when a program does."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cprtest.faults.fault import Fault
from cprtest.host.programs import program

if TYPE_CHECKING:
    from cprtest.outcome import Outcome
    from cprtest.transfer import Transfer


class ByProgram(Fault):
    """A program takes the stream from the source and another gives it to the target, through a fifo.

    count: the source's ends after so many bytes; None: when all has gone through.
    """

    breaks = "the main channel's program"
    phase = "stream"
    side = "source"

    def __init__(self, count: int | None = None) -> None:
        self.name = "main-by-program" + ("" if count is None else f"-that-ends-after-{count}")
        self._program = "cat" if count is None else f"head -c {count}"

    def arm(self, transfer: Transfer) -> None:
        """Have the target read from its program."""
        self._fifo = transfer.scratch / "stream"
        os.mkfifo(self._fifo)
        transfer.plan.extra[transfer.plan.place_of("main")] = json.dumps(_by(program("cat"), str(self._fifo)))

    def ready(self, transfer: Transfer) -> None:
        """Have the source write to its own."""
        writer = _by(program("sh"), "-c", f"{self._program} >{self._fifo}")
        transfer.arguments = {"channels": [writer, transfer.channels[1]]}

    def confirm(self, outcome: Outcome) -> None:
        """The source says what kind of channel it has."""
        channel = outcome.first("source", "migration_set_outgoing_channel", "qio-channel-command")
        if channel:
            self.struck(f"the source traced {channel.data['text']}", channel.t)


def _by(*words: str) -> dict[str, Any]:
    return {"channel-type": "main", "addr": {"transport": "exec", "args": list(words)}}
