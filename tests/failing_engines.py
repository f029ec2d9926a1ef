"""Engines that break in the ways that servers do, around engines that work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from langgraph_switch.engines.base import (
    BatchError,
    Continuation,
    Engine,
    GenerateRequest,
    LabelRequest,
    NewToken,
    OnToken,
)
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import EngineError

DOWN = EngineError("The server is down.", hint="start it", retryable=True)
NAN = EngineError("The model computed NaN.", hint="use float32")


class FlakyEngine:
    """Breaks off calls behind a few tokens, as long as `breaks` says so."""

    def __init__(
        self,
        engine: Engine,
        *,
        breaks: Callable[[GenerateRequest], EngineError | None],
        after_tokens: int = 0,
        tells_rows_apart: bool = False,
    ) -> None:
        """Wrap an engine.

        Args:
            engine: Writes.
            breaks: The error that a request shall meet, if any.
            after_tokens: How many tokens are told before it.
            tells_rows_apart: Raise a `BatchError` that says which requests failed.
        """
        self._engine = engine
        self._breaks = breaks
        self._after_tokens = after_tokens
        self._tells_rows_apart = tells_rows_apart
        self.calls: list[Sequence[GenerateRequest]] = []
        self.num_label_calls = 0
        self.label_error: EngineError | None = None
        self.released: list[str] = []
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    @property
    def vocab_size(self) -> int:
        return self._engine.vocab_size

    @property
    def max_context_tokens(self) -> int:
        return self._engine.max_context_tokens

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return self._engine.eos_token_ids

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        with self._lock:
            self.calls.append(requests)
        outcomes: list[Continuation | EngineError] = []
        for index, request in enumerate(requests):
            error = self._breaks(request)
            if error is None:
                outcomes.append(self._write(index, request, on_token, None))
                continue
            if self._after_tokens:
                self._write(index, request, on_token, self._after_tokens)
            if not self._tells_rows_apart:
                raise error
            outcomes.append(error)
        if any(isinstance(one, EngineError) for one in outcomes):
            raise BatchError(outcomes)
        return [one for one in outcomes if isinstance(one, Continuation)]

    def _write(
        self, index: int, request: GenerateRequest, on_token: OnToken | None, at_most: int | None
    ) -> Continuation:
        told = 0

        def tell(_: int, token: NewToken) -> None:
            nonlocal told
            told += 1
            if on_token is not None and (at_most is None or told <= at_most):
                on_token(index, token)

        [written] = self._engine.generate([request], tell)
        return written

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        self.num_label_calls += 1
        if self.label_error is not None:
            raise self.label_error
        return self._engine.label_logprobs(requests)

    def release(self, rows: Iterable[str]) -> None:
        rows = list(rows)
        self.released += rows
        self._engine.release(rows)


def always(error: EngineError) -> Callable[[GenerateRequest], EngineError]:
    return lambda _: error


def first_times(error: EngineError, number: int) -> Callable[[GenerateRequest], EngineError | None]:
    """Break the first calls only."""
    left = [error] * number
    return lambda _: left.pop() if left else None


def for_text(
    engine: Engine, error: EngineError, *texts: str
) -> Callable[[GenerateRequest], EngineError | None]:
    """Break requests whose prefix holds one of these texts."""

    def breaks(request: GenerateRequest) -> EngineError | None:
        prefix = engine.tokenizer.decode(request.prefix)
        return error if any(text in prefix for text in texts) else None

    return breaks
