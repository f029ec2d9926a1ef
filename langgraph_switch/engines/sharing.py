"""Requests to several engines as one pass, where the engines are adapters of one base.

Engines of the same weights meet at one `Coalescer`; their requests say whose they are. Whoever
writes for several engines hands in everything at once (`generate_all`); threads that write for
one engine each wait for each other a moment (`Rendezvous`). An engine that shares nothing is
called as ever. Knows nothing of tensors, candidates or switching.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from langgraph_switch.engines.base import (
    Continuation,
    Engine,
    GenerateRequest,
    NewToken,
    OnToken,
)
from langgraph_switch.engines.coalesce import Coalescer
from langgraph_switch.engines.tokenizer import Tokenizer

_PATIENCE_S = 0.1
"""Longest wait for threads that were expected: one may have failed, or have no thread to run."""


class _Answers(Protocol):
    """What answers requests that were addressed to engines of one base."""

    def answer(
        self, addressed: Sequence[Addressed], on_token: OnToken | None
    ) -> list[Continuation]: ...

    def num_lacking(self, request: GenerateRequest) -> int: ...


@dataclass(frozen=True, slots=True)
class Addressed:
    """A request and the engine that it is for."""

    engine: _Answers
    request: GenerateRequest


Meeting: TypeAlias = Coalescer[Addressed, Continuation]


def make_meeting(turn: AbstractContextManager[object], *, max_requests: int = 64) -> Meeting:
    """Return where engines that work under one lock, over the same weights, meet."""
    return Meeting(_answer, turn, max_requests=max_requests)


def _answer(addressed: Sequence[Addressed], on_token: OnToken | None) -> list[Continuation]:
    return addressed[0].engine.answer(addressed, on_token)


@runtime_checkable
class SharingEngine(Protocol):
    """An engine whose passes may serve other engines' requests too."""

    @property
    def meeting(self) -> Meeting:
        """Where its requests are put; the same for all engines of the same weights."""
        ...

    def addressed(self, requests: Sequence[GenerateRequest]) -> list[Addressed]:
        """Return checked requests, ready to be put there.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
        """
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """What one engine is asked for."""

    engine: Engine
    requests: Sequence[GenerateRequest]
    on_token: OnToken | None = None


class Rendezvous:
    """Lets threads arrive together, so that their requests share a pass."""

    def __init__(self, num_threads: int) -> None:
        """Expect so many threads."""
        self._barrier = threading.Barrier(num_threads)

    def wait(self) -> None:
        """Wait for the others; not for long, and never again once somebody did not come."""
        try:
            self._barrier.wait(_PATIENCE_S)
        except threading.BrokenBarrierError:
            return


class Gathering:
    """Hands threads of the same step the same rendezvous."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[tuple[str, int], tuple[str, ...]], list[Rendezvous]] = {}

    def join(self, step: tuple[str, int], partners: tuple[str, ...]) -> Rendezvous | None:
        """Return where to meet; None for somebody without partners.

        Args:
            step: A run and its step; what was left open by earlier steps of the run is forgotten.
            partners: Who is expected; each comes once.
        """
        if len(partners) == 1:
            return None
        with self._lock:
            for old in [key for key in self._open if _is_over(key[0], step)]:
                del self._open[old]
            places = self._open.get((step, partners))
            if places is None:
                places = self._open[step, partners] = [Rendezvous(len(partners))] * len(partners)
            place = places.pop()
            if not places:
                del self._open[step, partners]
            return place


def _is_over(other: tuple[str, int], step: tuple[str, int]) -> bool:
    return other[0] == step[0] and other[1] != step[1]


class MeetingEngine:
    """An engine whose first call waits for other threads that are expected at the same weights."""

    def __init__(self, engine: Engine, rendezvous: Rendezvous | None) -> None:
        """Call an engine; without a rendezvous as ever."""
        self._engine = engine
        self._rendezvous = rendezvous

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._engine.tokenizer

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Continue every prefix, perhaps computed along with other threads' requests.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
            EngineError: The model failed; the requests can be sent again.
        """
        engine, rendezvous = self._engine, self._rendezvous
        self._rendezvous = None  # Another try is nobody else's.
        if rendezvous is None or not isinstance(engine, SharingEngine):
            return engine.generate(requests, on_token)
        return engine.meeting(engine.addressed(requests), on_token, rendezvous.wait)


def generate_all(parts: Sequence[Part]) -> list[list[Continuation]]:
    """Return every part's continuations; parts for engines of the same weights share a pass.

    Raises:
        ContextLengthError: A prefix and its new tokens exceed the context.
        EngineError: A model failed; the requests can be sent again.
    """
    results: list[list[Continuation]] = [[] for _ in parts]
    for group in groups([part.engine for part in parts]):
        together = [parts[index] for index in group]
        for index, result in zip(group, _generate_group(together), strict=True):
            results[index] = result
    return results


def groups(engines: Sequence[Engine]) -> list[list[int]]:
    """Return which engines can share a pass, as indices; an engine may be alone."""
    found: dict[Hashable, list[int]] = {}
    for index, engine in enumerate(engines):
        key = engine.meeting if isinstance(engine, SharingEngine) else index
        found.setdefault(key, []).append(index)
    return list(found.values())


def _generate_group(parts: Sequence[Part]) -> list[list[Continuation]]:
    first = parts[0].engine
    if len(parts) == 1 or not isinstance(first, SharingEngine):
        return [part.engine.generate(part.requests, part.on_token) for part in parts]
    places = [(part, index) for part in parts for index in range(len(part.requests))]

    def on_token(position: int, token: NewToken) -> None:
        part, index = places[position]
        if part.on_token is not None:
            part.on_token(index, token)

    addressed = [
        one
        for part in parts
        if isinstance(part.engine, SharingEngine)
        for one in part.engine.addressed(part.requests)
    ]
    listens = any(part.on_token is not None for part in parts)
    found = iter(first.meeting(addressed, on_token if listens else None))
    return [[next(found) for _ in part.requests] for part in parts]
