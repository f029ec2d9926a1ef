"""One request while a server answers it: asks, applies the stop rules, asks for what is missing.

Knows nothing of other requests, threads or how often to try.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from langgraph_switch.engines.base import Continuation, GenerateRequest, OnToken
from langgraph_switch.engines.completions import (
    Piece,
    ServerFacts,
    generate_extras,
    generate_fields,
    read_piece,
)
from langgraph_switch.engines.decoding import RowProgress
from langgraph_switch.engines.remote_tokenizer import prompt_text
from langgraph_switch.engines.server import Server
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import EngineError
from langgraph_switch.seeds import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model on a server, as far as requests need to know it."""

    server: Server
    name: str
    """On the server."""
    tokenizer: Tokenizer
    facts: ServerFacts
    max_context_tokens: int


class RemoteRow:
    """One request on its way.

    Attributes:
        cached_tokens: Prompt tokens that the server remembered; None if it has not said so.
    """

    def __init__(
        self, index: int, request: GenerateRequest, model: RemoteModel, on_token: OnToken | None
    ) -> None:
        if request.extra_tokens is not None:  # No more than the context has room for.
            room = model.max_context_tokens - len(request.prefix) - request.max_new_tokens
            request = replace(request, extra_tokens=min(request.extra_tokens, max(room, 0)))
        self._request = request
        self._model = model
        self._progress = RowProgress(index, request, model.tokenizer, on_token)
        self._asks_streaming = (
            on_token is not None
            or request.end_at != "length"
            or request.extra_tokens is not None
            or (bool(request.stop) and not model.facts.is_exact)
        )
        self.cached_tokens: int | None = None

    async def finish(self) -> Continuation:
        """Ask until the request is answered.

        Raises:
            EngineError: The server failed.
        """
        while not self._progress.is_finished:
            num_before = len(self._progress.token_ids)
            last = await self._ask()
            if not self._model.facts.is_exact:
                break  # How many tokens a text has is the server's to say.
            if not self._progress.is_finished and len(self._progress.token_ids) == num_before:
                raise EngineError(
                    f"{self._model.name!r} ended a text where it should not ({last.ended_at}).",
                    hint="use a server that knows ignore_eos and stop_token_ids, as vLLM does",
                )
        cached = self.cached_tokens or 0
        return self._progress.continuation(
            cached_tokens=cached, prefill_tokens=len(self._request.prefix) - cached
        )

    async def _ask(self) -> Piece:
        """Send what is left of the request and take what comes; return its end."""
        request, written = self._request, list(self._progress.token_ids)
        num_left = request.max_new_tokens + (request.extra_tokens or 0) - len(written)
        # The first draws are used up, where something is written.
        seed = derive_seed(request.seed, "", len(written), "rest") if written else request.seed
        facts = self._model.facts
        ids = [*request.prefix, *written]
        prompt = ids if facts.takes_token_prompts else prompt_text(self._model.tokenizer, ids)
        fields = generate_fields(request, facts, max_tokens=num_left, seed=seed)
        fields["extra_body"] = generate_extras(request, facts) or None
        if self._asks_streaming:
            return await self._stream(prompt, fields, max_tokens=num_left)
        piece = read_piece(await self._model.server.complete(self._model.name, prompt, **fields))
        self._take(piece)
        return piece

    async def _stream(
        self, prompt: str | list[int], fields: dict[str, Any], *, max_tokens: int
    ) -> Piece:
        server, name = self._model.server, self._model.name
        num_received = 0
        last = Piece()
        async with server.stream(name, prompt, **fields) as events:
            async for event in events:
                piece = read_piece(event)
                was_finished = self._progress.is_finished
                num_received += len(piece.token_ids or ())
                self._take(piece)
                last = piece if piece.is_end else last
                # A server that will end by itself is heard out: its connection stays open, and it
                # says what it remembered. One that would go on is left.
                goes_on = was_finished or not self._ends_by_itself(num_received >= max_tokens)
                if self._progress.is_finished and not last.is_end and goes_on:
                    break
        if not last.is_end and not self._progress.is_finished:
            raise EngineError(
                f"The answer of {server.spec.base_url} ({name}) broke off.", retryable=True
            )
        return last

    def _ends_by_itself(self, has_all_tokens: bool) -> bool:
        """Return whether the server knows as well as we do that this row is finished."""
        reason = self._progress.continuation(cached_tokens=0, prefill_tokens=0).finish_reason
        return has_all_tokens or (reason == "stop" and self._model.facts.is_exact)

    def _take(self, piece: Piece) -> None:
        if self.cached_tokens is None:
            self.cached_tokens = piece.cached_tokens
        is_exact = self._model.facts.is_exact and piece.token_ids is not None
        ids = piece.token_ids if is_exact else self._model.tokenizer.encode(piece.text)
        for token_id in ids or ():
            self._progress.accept(token_id)
        if piece.is_end and piece.ended_at == "eos" and self._request.eos_token_ids:
            self._progress.accept(self._request.eos_token_ids[0])
