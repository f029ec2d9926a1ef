"""Requests whose progress outlives a failing call: another try goes on from what was shown.

Nothing that a caller has been told is lost, told again or taken back, whichever engine goes on.
Where nobody listens nothing has been told, and another try begins anew, with the same draws.
Knows nothing of how often or how soon to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from langgraph_switch.engines.base import (
    BatchError,
    Continuation,
    GenerateRequest,
    NewToken,
    OnToken,
    Writer,
)
from langgraph_switch.engines.decoding import RowProgress
from langgraph_switch.engines.together import Tell, call_together
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import EngineError
from langgraph_switch.seeds import derive_seed


class ResumableBatch:
    """A batch of requests and how far each has come."""

    def __init__(
        self,
        requests: Sequence[GenerateRequest],
        tokenizer: Tokenizer,
        on_token: OnToken | None = None,
    ) -> None:
        """Begin with nothing written.

        Args:
            requests: What is to be written.
            tokenizer: Of the engines that will be asked.
            on_token: Hears of every token once; None: nobody listens, nothing needs to be kept.
        """
        self._requests = requests
        self._tokenizer = tokenizer
        self._on_token = on_token
        self._shown: list[list[NewToken]] = [[] for _ in requests]
        self._num_kept = [0] * len(requests)  # Shown before the call that is under way.
        self._results: dict[int, Continuation] = {}
        self._is_split = False

    @property
    def pending(self) -> list[int]:
        """Indices of the requests that are not answered yet."""
        return [i for i in range(len(self._requests)) if i not in self._results]

    def send(
        self, engine: Writer, rows: Sequence[int], *, timeout_s: float | None = None
    ) -> dict[int, EngineError]:
        """Let an engine go on with some requests; return the errors of those that failed.

        An engine that cannot say whose fault an error was is asked for each request by itself from
        then on, so that one request's error is not another's.

        Raises:
            Exception: What the engine raises that is no `EngineError`.
        """
        requests = [self._rest(row, timeout_s) for row in rows]

        def on_token(position: int, token: NewToken) -> None:
            row = rows[position]
            self._shown[row].append(token)
            if self._on_token is not None:
                self._on_token(row, token)

        listener = None if self._on_token is None else on_token
        outcomes = self._outcomes(engine, requests, listener)
        errors: dict[int, EngineError] = {}
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Continuation):
                self._results[row] = self._joined(row, outcome)
            elif (whole := self._whole(row)) is not None:
                self._results[row] = whole
            else:
                errors[row] = outcome
        return errors

    @property
    def is_split(self) -> bool:
        """Whether requests are sent one by one, since nobody knew whose fault an error was."""
        return self._is_split

    def result(self, row: int) -> Continuation:
        """Return a request's continuation: the whole, or what was shown of it, as `failed`."""
        if row in self._results:
            return self._results[row]
        shown = self._shown[row]
        return Continuation(
            token_ids=tuple(token.token_id for token in shown),
            text="".join(token.text for token in shown),
            finish_reason="failed",
        )

    def _outcomes(
        self, engine: Writer, requests: Sequence[GenerateRequest], on_token: OnToken | None
    ) -> Sequence[Continuation | EngineError]:
        if self._is_split and len(requests) > 1:
            is_heard = on_token is not None
            calls = [_alone(engine, one, i, is_heard=is_heard) for i, one in enumerate(requests)]
            return call_together(calls, on_token)
        try:
            return engine.generate(requests, on_token)
        except BatchError as err:
            return err.outcomes
        except EngineError as err:
            self._is_split = len(requests) > 1
            return [err] * len(requests)

    def _rest(self, row: int, timeout_s: float | None) -> GenerateRequest:
        """Return the request for what is missing; the same one where nothing was shown."""
        request = replace(self._requests[row], timeout_s=timeout_s)
        shown = self._num_kept[row] = len(self._shown[row])
        if not shown:
            return request
        return replace(
            request,
            prefix=[*request.prefix, *(token.token_id for token in self._shown[row])],
            max_new_tokens=request.max_new_tokens - shown,
            seed=derive_seed(request.seed, "", shown, "rest"),  # The first draws are used up.
        )

    def _joined(self, row: int, rest: Continuation) -> Continuation:
        """Return a continuation behind what earlier calls had shown."""
        kept = self._shown[row][: self._num_kept[row]]
        return replace(
            rest,
            token_ids=(*(token.token_id for token in kept), *rest.token_ids),
            text="".join(token.text for token in kept) + rest.text,
        )

    def _whole(self, row: int) -> Continuation | None:
        """Return the continuation if all of it was shown before the call failed.

        Otherwise tokens of an incomplete character are dropped: nothing of them was shown, and
        whoever goes on may have another vocabulary.
        """
        progress = RowProgress(row, self._requests[row], self._tokenizer)
        shown = self._shown[row]
        for token in shown:
            progress.accept(token.token_id)
        if progress.is_finished:
            found = progress.continuation(cached_tokens=0, prefill_tokens=0)
            return replace(found, text="".join(token.text for token in shown))
        del shown[progress.num_complete :]
        return None


def _alone(
    engine: Writer, request: GenerateRequest, index: int, *, is_heard: bool
) -> Callable[[Tell], Continuation]:
    def call(tell: Tell) -> Continuation:
        listener = (lambda _, token: tell(index, token)) if is_heard else None
        [written] = engine.generate([request], listener)
        return written

    return call
