# SPDX-License-Identifier: GPL-2.0-or-later
"""The one asyncio loop, in a thread of its own: qemu.qmp is asyncio, tests are not.

Only cprtest.machine and cprtest.transfer know that this loop exists.
"""

import asyncio
import functools
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cprtest-loop", daemon=True).start()
    return loop


def start(work: Coroutine[Any, Any, _T]) -> "Future[_T]":
    """Start `work` on the loop and return at once."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def run(work: Coroutine[Any, Any, _T], timeout: float | None = None) -> _T:
    """Run `work` on the loop and wait for it, `timeout` seconds at most (TimeoutError)."""
    future = start(work)
    try:
        return future.result(timeout)
    except TimeoutError:
        future.cancel()
        raise
