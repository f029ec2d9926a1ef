"""Concurrent calls share a batch; each caller gets its own results, tokens and errors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from langgraph_switch.engines.base import NewToken, OnToken
from langgraph_switch.engines.coalesce import Coalescer
from langgraph_switch.errors import EngineError


class Doubler:
    """Doubles numbers, tells two tokens for each, and refuses what is negative."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, requests: Sequence[int], on_token: OnToken | None) -> list[int]:
        self.batches.append(list(requests))
        for index, request in enumerate(requests):
            if on_token is not None:
                on_token(index, NewToken(request, "a"))
        for index, request in enumerate(requests):
            if request < 0:
                raise EngineError(f"{request} is negative")
            if on_token is not None:
                on_token(index, NewToken(request, "b"))
        return [2 * request for request in requests]


def calls_at_once(
    coalescer: Coalescer[int, int], turn: threading.RLock, batches: Sequence[Sequence[int]]
) -> list[object]:
    """Let a thread per batch wait for the turn, and return what each got."""

    def call(requests: Sequence[int]) -> object:
        try:
            return coalescer(requests)
        except EngineError as err:
            return err

    with ThreadPoolExecutor(len(batches)) as pool:
        with turn:
            futures = [pool.submit(call, requests) for requests in batches]
            while len(coalescer._waiting) < len(batches):
                threading.Event().wait(0.001)
        return [future.result() for future in futures]


def test_what_waits_together_is_computed_together() -> None:
    work, turn = Doubler(), threading.RLock()
    coalescer = Coalescer(work, turn, max_requests=64)
    found = calls_at_once(coalescer, turn, [[1, 2], [3], [4, 5]])
    assert sorted(map(str, found)) == ["[2, 4]", "[6]", "[8, 10]"]
    assert [sorted(batch) for batch in work.batches] == [[1, 2, 3, 4, 5]]


def test_a_batch_is_not_larger_than_allowed_unless_one_call_is() -> None:
    work, turn = Doubler(), threading.RLock()
    coalescer = Coalescer(work, turn, max_requests=2)
    calls_at_once(coalescer, turn, [[1], [2], [3]])
    assert sorted(len(batch) for batch in work.batches) == [1, 2]
    assert coalescer([1, 2, 3]) == [2, 4, 6]


def test_only_the_caller_at_fault_gets_the_error() -> None:
    work, turn = Doubler(), threading.RLock()
    coalescer = Coalescer(work, turn, max_requests=64)
    first, bad, last = calls_at_once(coalescer, turn, [[1], [-7], [2]])
    assert (first, last) == ([2], [4])
    assert isinstance(bad, EngineError)
    assert "-7" in str(bad)


def test_tokens_reach_their_caller_once_even_if_a_neighbour_failed() -> None:
    work, turn = Doubler(), threading.RLock()
    coalescer = Coalescer(work, turn, max_requests=64)
    heard: dict[int, list[tuple[int, str]]] = {1: [], -7: [], 2: []}

    def call(number: int) -> object:
        def on_token(index: int, token: NewToken) -> None:
            assert token.token_id == number
            heard[number].append((index, token.text))

        try:
            return coalescer([number], on_token)
        except EngineError as err:
            return err

    with ThreadPoolExecutor(3) as pool:
        with turn:
            futures = [pool.submit(call, number) for number in heard]
            while len(coalescer._waiting) < 3:
                threading.Event().wait(0.001)
        found = [future.result() for future in futures]
    assert found[0] == [2]
    assert found[2] == [4]
    assert heard == {1: [(0, "a"), (0, "b")], -7: [(0, "a")], 2: [(0, "a"), (0, "b")]}


def test_an_error_of_a_callers_own_callback_is_raised_to_it() -> None:
    coalescer = Coalescer(Doubler(), threading.RLock(), max_requests=64)

    def on_token(index: int, token: NewToken) -> None:
        raise ConnectionResetError(f"the client is gone at {token.text} of {index}")

    with pytest.raises(ConnectionResetError, match="client is gone"):
        coalescer([1], on_token)
    assert coalescer([1]) == [2]


def test_an_interrupted_caller_leaves_the_others_to_be_answered() -> None:
    turn = threading.RLock()
    hits = []

    def work(requests: Sequence[int], on_token: OnToken | None) -> list[int]:
        del on_token
        hits.append(list(requests))
        if len(hits) == 1:
            raise KeyboardInterrupt
        return [2 * request for request in requests]

    coalescer = Coalescer(work, turn, max_requests=64)

    def call(number: int) -> object:
        try:
            return coalescer([number])
        except KeyboardInterrupt:
            return "interrupted"

    with ThreadPoolExecutor(2) as pool:
        with turn:
            futures = [pool.submit(call, number) for number in (1, 2)]
            while len(coalescer._waiting) < 2:
                threading.Event().wait(0.001)
        found = [future.result() for future in futures]
    assert sorted(map(str, found)) in (["[2]", "interrupted"], ["[4]", "interrupted"])
    assert len(hits) == 2
    assert len(hits[1]) == 1
