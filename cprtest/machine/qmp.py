# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP, synchronous, with every message logged and every event kept with its time."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient
from qemu.qmp.error import QMPError

from cprtest.errors import CprError
from cprtest.limits import TimeLimit, met, stretched
from cprtest.machine import loop
from cprtest.timeline.clock import WallClock
from cprtest.timeline.event import Event

# It formats every message for a debug log, which takes long in an emulated lab. qmp.log has them all. And it
# warns of the answer to _BEGIN, which it did not send.
logging.getLogger("qemu.qmp").setLevel(logging.ERROR)

_BEGIN = b'{"execute": "qmp_capabilities", "id": "begin"}\n'
"""Lies in the socket before the monitor is there: QEMU keeps events to itself until it has read this, and the
target of a fast transfer may have resumed the guest before an answer to its greeting has come."""


class CommandFailed(CprError):
    """QEMU answered a QMP command with an error, or went away before it answered."""


class Qmp:
    """A QMP session over one end of a socket pair whose other end QEMU holds.

    QEMU greets only once its monitor is up, which for the target of a cpr-transfer is after
    the cpr state has arrived: so `connect` starts the wait and returns, `ready` waits.
    """

    def __init__(self, actor: str, log: Path) -> None:
        self.actor = actor
        self.events: list[Event] = []
        self.on_event: Callable[[Event], object] | None = None
        """Told of each event as it arrives, in the loop's thread: it must return at once."""
        self.first_answer = 0
        """When the first command was answered (ns, CLOCK_MONOTONIC): QEMU greets before its devices are made,
        and answers once they are."""
        self._log = log.open("a", buffering=1)
        self._news = threading.Condition()
        self._clock = WallClock()
        self._client = QMPClient(actor)
        self._client.negotiate = False  # by _BEGIN
        self._pump: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[Any] | None = None
        self._greeting: Future[None] | None = None
        self._closed = False

    def connect(self, sock: socket.socket) -> None:
        """Take over `sock` and wait for the greeting in the background. A listening one gets one client."""
        self._greeting = loop.start(self._open(sock))

    async def _open(self, sock: socket.socket) -> None:
        self._opening = asyncio.current_task()
        listener = EventListener()
        self._client.register_listener(listener)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            with sock as waiting:
                waiting.setblocking(False)
                sock, _ = await asyncio.get_running_loop().sock_accept(waiting)
        sock.send(_BEGIN)
        await self._client.connect(sock)
        self._pump = asyncio.get_running_loop().create_task(self._listen(listener))

    async def _listen(self, listener: EventListener) -> None:
        async for received in listener:
            message: dict[str, Any] = dict(received)
            self._note("event", message)
            stamp = message["timestamp"]
            t, err = self._clock.monotonic(stamp["seconds"] * 10**9 + stamp["microseconds"] * 1000)
            event = Event(t, self.actor, "qmp", message["event"], err=err, data=dict(message.get("data", {})))
            with self._news:
                self.events.append(event)
                self._news.notify_all()
            if self.on_event is not None:
                self.on_event(event)

    async def _end(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        # A client that is told to disconnect while its connect() fails falls over its own state.
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._client.disconnect()

    def _note(self, kind: str, message: Any) -> None:
        line = {"t": time.monotonic_ns(), "actor": self.actor, kind: message}
        with contextlib.suppress(ValueError):  # closed while an event was on its way
            self._log.write(json.dumps(line) + "\n")

    def ready(self, seconds: float = 10, alive: Callable[[], str | None] = lambda: None) -> None:
        """Wait for the greeting, `seconds` (stretched) at most.

        `alive` returns why QEMU cannot answer any more (its exit), or None.
        Raises TimeLimit, or CommandFailed when QEMU is gone.
        """
        assert self._greeting is not None, "connect() comes first"
        start = time.monotonic()
        deadline = start + stretched(seconds)
        while True:
            try:
                self._greeting.result(0.1)
                met(seconds, start)
                return
            except TimeoutError:
                gone = alive()
                if gone:
                    raise CommandFailed(f"{self.actor}: no QMP greeting: {gone}") from None
                if time.monotonic() > deadline:
                    raise TimeLimit(
                        f"waited {stretched(seconds):.0f} s for {self.actor}'s QMP greeting"
                    ) from None
            except (QMPError, OSError, EOFError) as error:
                raise CommandFailed(f"{self.actor}: no QMP greeting: {alive() or error}") from error

    @property
    def is_ready(self) -> bool:
        """Whether QEMU has greeted."""
        greeting = self._greeting
        return greeting is not None and greeting.done() and greeting.exception() is None

    def command(self, name: str, /, *, seconds: float = 10, **arguments: Any) -> Any:
        """Run one command and return its answer. An underscore in an argument's name stands for a dash.

        Raises CommandFailed (QEMU's own words in it) or TimeLimit after `seconds` (stretched).
        """
        args = {key.replace("_", "-"): value for key, value in arguments.items() if value is not None}
        self._note("command", {"execute": name, "arguments": args})
        start = time.monotonic()
        try:
            answer = loop.run(self._client.execute(name, args), stretched(seconds))
        except TimeoutError:
            self._note("error", "no answer")
            raise TimeLimit(
                f"waited {stretched(seconds):.0f} s for {self.actor}'s answer to {name}"
            ) from None
        except (QMPError, OSError, EOFError) as error:
            self._note("error", str(error))
            raise CommandFailed(f"{self.actor}: {name}: {error or type(error).__name__}") from error
        met(seconds, start)
        self.first_answer = self.first_answer or time.monotonic_ns()
        self._note("return", answer)
        return answer

    def wait_any(
        self, name: str, key: str, values: Sequence[str], seconds: float = 10, since: int = 0
    ) -> Event:
        """The first event `name` at or after index `since` of `events` whose `key` is one of `values`.

        Raises TimeLimit after `seconds` (stretched), or when the session ended without it.
        """

        def found() -> Event | None:
            wanted = (e for e in self.events[since:] if e.name == name and e.data.get(key) in values)
            return next(wanted, None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._closed, stretched(seconds))
            event = found()
        if event is None:
            seen = ", ".join(f"{e.name} {e.data.get(key, '')}".rstrip() for e in self.events[since:])
            what = f"{self.actor}'s event {name} with {key} {' or '.join(values)}"
            raise TimeLimit(f"waited {stretched(seconds):.0f} s for {what}; instead: {seen or 'no event'}")
        return event

    def close(self) -> None:
        """End the session; QEMU's own end stays as it is. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError):
            loop.run(self._end(), 2)
        with self._news:
            self._news.notify_all()
        self._log.close()
