"""Calls that wait for the same model are answered as one batch.

Whoever gets the model next takes everything that waits for it along; so concurrent callers
(threads, awaited calls) share decoding steps without knowing of each other, and a lone caller
waits for nobody. Knows nothing of models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeAlias, TypeVar

from langgraph_switch.engines.base import NewToken, OnToken

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")
Work: TypeAlias = Callable[[Sequence[RequestT], OnToken | None], list[ResultT]]


class _Call(Generic[RequestT, ResultT]):
    """One caller's requests, and what has become of them."""

    def __init__(self, requests: Sequence[RequestT], on_token: OnToken | None) -> None:
        self.requests = requests
        self.results: list[ResultT] | None = None
        self.error: BaseException | None = None
        self._on_token = on_token
        self._num_shown = [0] * len(requests)
        self._num_seen = [0] * len(requests)

    @property
    def is_done(self) -> bool:
        return self.results is not None or self.error is not None

    @property
    def wants_tokens(self) -> bool:
        return self._on_token is not None

    def begin(self) -> None:
        """Forget which tokens were seen in an earlier try; what was shown stays shown."""
        self._num_seen = [0] * len(self.requests)

    def show(self, index: int, token: NewToken) -> None:
        """Tell the caller of a token, once; an error of its own is raised to it at the end."""
        self._num_seen[index] += 1
        if self._on_token is None or self.error or self._num_seen[index] <= self._num_shown[index]:
            return
        self._num_shown[index] += 1
        try:
            self._on_token(index, token)
        except Exception as err:  # noqa: BLE001 - it is the caller's, who gets it
            self.error = err

    def outcome(self) -> list[ResultT]:
        if self.error is not None:
            raise self.error
        if self.results is None:
            raise AssertionError("a call was neither answered nor refused")
        return self.results


class Coalescer(Generic[RequestT, ResultT]):
    """Runs calls one batch after the other."""

    def __init__(
        self,
        work: Work[RequestT, ResultT],
        turn: AbstractContextManager[object],
        *,
        max_requests: int,
    ) -> None:
        """Stand before a model.

        Args:
            work: Answers a batch of requests; called with the turn held.
            turn: The lock under which the model works; whoever holds it takes all that waits.
            max_requests: Most requests of one batch; one call may have more on its own.
        """
        self._work = work
        self._turn = turn
        self._max_requests = max_requests
        self._guard = threading.Lock()
        self._waiting: list[_Call[RequestT, ResultT]] = []

    def __call__(
        self,
        requests: Sequence[RequestT],
        on_token: OnToken | None = None,
        until_all_wait: Callable[[], None] | None = None,
    ) -> list[ResultT]:
        """Return the results of the caller's own requests, in order.

        Args:
            requests: What is asked.
            on_token: Called with the index of a request and its new token.
            until_all_wait: Called once this call waits, before it takes a turn: returns when
                other calls wait as well.

        Raises:
            BaseException: What the work raises for these requests on their own.
        """
        call = _Call[RequestT, ResultT](requests, on_token)
        with self._guard:
            self._waiting.append(call)
        try:
            if until_all_wait is not None:
                until_all_wait()
            while not call.is_done:
                with self._turn:
                    if not call.is_done:
                        self._run(self._take())
        finally:  # Nobody needs to answer a caller who was interrupted.
            with self._guard:
                self._waiting = [one for one in self._waiting if one is not call]
        return call.outcome()

    def _take(self) -> list[_Call[RequestT, ResultT]]:
        """Return the calls that waited longest, as many as go into one batch."""
        with self._guard:
            size, number = 0, 0
            for call in self._waiting:
                size += len(call.requests)
                if number and size > self._max_requests:
                    break
                number += 1
            taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken

    def _run(self, calls: list[_Call[RequestT, ResultT]]) -> None:
        try:
            try:
                self._run_together(calls)
            except Exception as err:  # noqa: BLE001 - goes to its caller
                if len(calls) == 1:
                    calls[0].error = err
                    return
                for call in calls:  # Only whose fault it is shall hear of it.
                    self._run([call])
        finally:  # Interrupted: somebody else will do what is left.
            left = [call for call in calls if not call.is_done]
            with self._guard:
                self._waiting = left + self._waiting

    def _run_together(self, calls: Sequence[_Call[RequestT, ResultT]]) -> None:
        places = [(call, i) for call in calls for i in range(len(call.requests))]
        for call in calls:
            call.begin()

        def on_token(index: int, token: NewToken) -> None:
            call, own_index = places[index]
            call.show(own_index, token)

        results = self._work(
            [call.requests[i] for call, i in places],
            on_token if any(call.wants_tokens for call in calls) else None,
        )
        found = iter(results)
        for call in calls:
            call.results = [next(found) for _ in call.requests]
