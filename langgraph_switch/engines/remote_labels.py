"""Label log-probabilities from a server's answers of one token.

Takes the best of what a server can tell, found out by effect. Knows nothing of rows or candidates.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

from langgraph_switch.engines.base import LabelRequest
from langgraph_switch.engines.completions import (
    PROBE_TEXT,
    ScoreSource,
    ServerFacts,
    forced_fields,
    label_scores,
    label_steps,
    read_cached_tokens,
    read_forced,
    read_scores,
    score_fields,
)
from langgraph_switch.engines.labels import LabelTree
from langgraph_switch.engines.remote_tokenizer import prompt_text
from langgraph_switch.engines.server import Server
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import EngineError

_TOP_LOGPROBS = 20  # vLLM's most.
_FEW_LOGPROBS = 5  # OpenAI's most.
_CERTAIN = -1e-6

OnUsage: TypeAlias = Callable[[int, int | None], None]


class LabelScorer:
    """Asks one model of one server for labels' log-probabilities. Lives in the background loop."""

    def __init__(
        self, server: Server, model: str, tokenizer: Tokenizer, facts: ServerFacts
    ) -> None:
        self._server = server
        self._model = model
        self._tokenizer = tokenizer
        self._facts = facts
        self._source: ScoreSource | None = None
        self._num_top = _TOP_LOGPROBS
        self._lock = asyncio.Lock()

    async def logprobs(
        self, requests: Sequence[LabelRequest], on_usage: OnUsage
    ) -> list[tuple[float, ...]]:
        """Return each request's labels' log-probabilities.

        Args:
            requests: Prefixes and labels.
            on_usage: Hears of each prompt's length and how much of it was remembered.

        Raises:
            ConfigError: Two labels have the same tokens.
            EngineError: The server failed, or tells nothing of these tokens.
        """
        async with self._lock:
            if self._source is None:
                self._source = await self._find_source()
        return list(await asyncio.gather(*(self._score(one, on_usage) for one in requests)))

    async def _score(self, request: LabelRequest, on_usage: OnUsage) -> tuple[float, ...]:
        LabelTree(request.labels)  # Refuses labels that cannot be told apart.
        steps = label_steps(request.labels)
        found = await asyncio.gather(
            *(
                self._next_logprobs([*request.prefix, *path], ids, on_usage)
                for path, ids in steps.items()
            )
        )
        return label_scores(request.labels, dict(zip(steps, found, strict=True)))

    async def _next_logprobs(
        self, prefix: list[int], ids: list[int], on_usage: OnUsage
    ) -> dict[int, float]:
        if self._source == "ids":
            return await self._by_id(prefix, ids, on_usage)
        if self._source == "forced":
            found = await asyncio.gather(*(self._forced(prefix, i, on_usage) for i in ids))
            return dict(zip(ids, found, strict=True))
        return await self._from_top(prefix, ids, on_usage)

    async def _by_id(
        self, prefix: list[int], ids: list[int], on_usage: OnUsage | None = None
    ) -> dict[int, float]:
        fields, extras = score_fields(ids)
        answer = await self._server.complete(
            self._model, self._prompt(prefix), extra_body=extras, **fields
        )
        if on_usage:
            on_usage(len(prefix), read_cached_tokens(answer))
        found = read_scores(answer.choices[0], ids, [""] * len(ids))
        if len(found) < len(ids):
            raise EngineError(f"{self._model!r} left out the log-probability of a label.")
        return found

    async def _forced(
        self, prefix: list[int], token_id: int, on_usage: OnUsage | None = None
    ) -> float:
        fields, extras = forced_fields(token_id)
        answer = await self._server.complete(
            self._model, self._prompt(prefix), extra_body=extras, **fields
        )
        if on_usage:
            on_usage(len(prefix), read_cached_tokens(answer))
        found = read_forced(answer.choices[0], token_id)
        if found is None:
            raise EngineError(f"{self._model!r} chose a token that was not allowed.")
        return found

    async def _from_top(
        self, prefix: list[int], ids: list[int], on_usage: OnUsage
    ) -> dict[int, float]:
        """Return what the most probable tokens include; other labels get no probability."""
        extras = {"return_tokens_as_token_ids": True, "add_special_tokens": False}
        answer = await self._server.complete(
            self._model,
            self._prompt(prefix),
            max_tokens=1,
            temperature=0.0,
            logprobs=self._num_top,
            extra_body=extras if self._facts.takes_extras else None,
        )
        on_usage(len(prefix), read_cached_tokens(answer))
        texts = [self._tokenizer.decode([token_id]) for token_id in ids]
        found = read_scores(answer.choices[0], ids, texts)
        if not found:
            raise EngineError(
                f"{self._model!r} tells no log-probability of any label among its "
                f"{self._num_top} most probable tokens.",
                hint="use a server that knows logprob_token_ids (vLLM), or a switcher in this "
                "process",
            )
        return {token_id: found.get(token_id, -math.inf) for token_id in ids}

    async def _find_source(self) -> ScoreSource:
        """Return the best way that has an effect on this server, most exact first."""
        prefix = list(self._tokenizer.encode_chat(PROBE_TEXT))
        one, other = prefix[0], next(i for i in prefix if i != prefix[0])
        if self._facts.takes_extras:
            try:
                await self._by_id(prefix, [one, other])
            except EngineError as err:
                if err.retryable:
                    raise
            else:
                return "ids"
            try:
                scores = [await self._forced(prefix, i) for i in (one, other)]
            except EngineError as err:
                if err.retryable:
                    raise
            else:
                if min(scores) < _CERTAIN:  # Otherwise what was not allowed counts as impossible.
                    return "forced"
        await self._find_most_logprobs(prefix)
        warnings.warn(
            f"{self._server.spec.base_url} ({self._model}) tells only the {self._num_top} most "
            "probable tokens: a label that is not among them counts as impossible.",
            stacklevel=2,
        )
        return "top"

    async def _find_most_logprobs(self, prefix: list[int]) -> None:
        for number in (_TOP_LOGPROBS, _FEW_LOGPROBS):
            self._num_top = number
            try:
                await self._server.complete(
                    self._model, self._prompt(prefix), max_tokens=1, logprobs=number
                )
            except EngineError as err:
                if err.retryable or number == _FEW_LOGPROBS:
                    raise
            else:
                return

    def _prompt(self, ids: list[int]) -> list[int] | str:
        if self._facts.takes_token_prompts:
            return ids
        return prompt_text(self._tokenizer, ids)
