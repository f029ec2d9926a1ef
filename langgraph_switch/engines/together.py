"""Calls side by side in threads, their tokens told in the thread of the caller.

For engines that wait (for servers, for hosted models) more than they compute. Knows nothing of
what is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from langgraph_switch.engines.base import NewToken, OnToken
from langgraph_switch.errors import EngineError

_T = TypeVar("_T")
Tell: TypeAlias = Callable[[int, NewToken], None]
"""Called with a request's index and its new token, like `OnToken`, from any thread."""


class _CallerGoneError(Exception):
    """Nobody listens any more: the caller was interrupted, or could not take a token."""


def call_together(
    calls: Sequence[Callable[[Tell], _T]], on_token: OnToken | None, *, max_threads: int = 64
) -> list[_T | EngineError]:
    """Return what calls return, or the `EngineError` of those that fail, in order.

    Args:
        calls: Each is given a function to tell its tokens to.
        on_token: Hears of them, in the thread that called this.
        max_threads: Most calls at the same time.

    Raises:
        Exception: What a call raises that is no `EngineError`, when all have ended.
    """
    told: SimpleQueue[tuple[int, NewToken] | None] = SimpleQueue()
    is_over = threading.Event()

    def tell(index: int, token: NewToken) -> None:
        if is_over.is_set():
            raise _CallerGoneError
        told.put((index, token))

    def work(call: Callable[[Tell], _T]) -> _T | EngineError:
        try:
            return call(tell)
        except EngineError as err:
            return err
        finally:
            told.put(None)

    with ThreadPoolExecutor(min(len(calls), max_threads) or 1) as threads:
        running = [threads.submit(work, call) for call in calls]
        try:
            left = len(calls)
            while left:
                news = told.get()
                if news is None:
                    left -= 1
                elif on_token is not None:
                    on_token(*news)
        finally:
            is_over.set()
    return [one.result() for one in running]
