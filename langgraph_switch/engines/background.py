"""One event loop per process, in a thread of its own, for engines that wait for servers.

Synchronous callers hand it coroutines, so that clients and their connections live in one loop
however many threads and loops call. Knows nothing of servers.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_EventT = TypeVar("_EventT")
_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # By process: a fork has no threads.


def background_loop() -> asyncio.AbstractEventLoop:
    """Return this process' loop, starting it on first use."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="remote-engines", daemon=True).start()
        return loop


def run_in_background(
    work: Callable[[Callable[[_EventT], None]], Coroutine[Any, Any, _T]],
    on_event: Callable[[_EventT], None],
) -> _T:
    """Run a coroutine in the loop and return its result.

    Args:
        work: Makes the coroutine; is given what it calls with its events.
        on_event: Hears of each event, in the caller's thread.

    Raises:
        BaseException: What the coroutine or `on_event` raises; it is cancelled in the latter case.
    """
    events: queue.SimpleQueue[tuple[_EventT] | None] = queue.SimpleQueue()
    coroutine = work(lambda event: events.put((event,)))
    future = asyncio.run_coroutine_threadsafe(coroutine, background_loop())
    future.add_done_callback(lambda _: events.put(None))
    try:
        while (event := events.get()) is not None:
            on_event(event[0])
    except BaseException:
        future.cancel()
        raise
    return future.result()
