"""An engine whose model is behind `/v1/completions` of another process: vLLM, or what speaks alike.

Sends prompts as token ids and applies every stop rule on this side as well, so that a segment ends
where it would end in this process. The prefix cache is the server's. Knows nothing of candidates,
and retries nothing.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from langgraph_switch.engine_specs import OpenAIEngineSpec
from langgraph_switch.engines.background import run_in_background
from langgraph_switch.engines.base import (
    Continuation,
    GenerateRequest,
    LabelRequest,
    NewToken,
    OnToken,
    all_written,
)
from langgraph_switch.engines.completions import ServerFacts
from langgraph_switch.engines.remote_labels import LabelScorer
from langgraph_switch.engines.remote_row import RemoteModel, RemoteRow
from langgraph_switch.engines.remote_tokenizer import (
    LocalTokenizer,
    load_local_tokenizer,
)
from langgraph_switch.engines.server import check_key, probe, shared_server
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ContextLengthError, EngineError, InputError

_Token: TypeAlias = tuple[int, NewToken]
_RETRY_PROBE_S = 10.0
_LONGEST_PROBE_S = 10.0
"""Before a response begins; later the time of its segment counts."""


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What a server's prefix cache has saved."""

    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens that were not computed again."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class OpenAIEngine:
    """Continues token prefixes with a model that a server holds. Thread-safe."""

    def __init__(
        self, spec: OpenAIEngineSpec, local: LocalTokenizer, *, name: str | None = None
    ) -> None:
        """Describe the engine; the server is asked on first use.

        Args:
            spec: Where it is.
            local: The model's tokenizer and limits, as its files say.
            name: What to call the model in messages; by default its name on the server.
        """
        self._spec = spec
        self._local = local
        self._name = name or spec.model
        self._facts: ServerFacts | None = None
        self._probe_lock: asyncio.Lock | None = None
        self._next_probe_s = 0.0
        self._cache_use = CacheUse()
        self._scorer: LabelScorer | None = None

    def __repr__(self) -> str:
        return f"OpenAIEngine(base_url={self._spec.base_url!r}, model={self._spec.model!r})"

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return self._name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, held by this process."""
        return self._local.tokenizer

    @property
    def vocab_size(self) -> int:
        """How many token ids the model knows."""
        return self._local.vocab_size

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens with which the model ends a turn or a document."""
        return self._local.eos_token_ids

    @property
    def cache_use(self) -> CacheUse:
        """What the server's prefix cache has saved this engine, as far as the server says."""
        return self._cache_use

    @property
    def max_context_tokens(self) -> int:
        """Most tokens of prompt and response together: the server's limit, if it can be asked.

        Raises:
            ConfigError: The server is another one than the engine's description says.
        """
        if self._facts is None and time.monotonic() >= self._next_probe_s:
            try:
                self._run(lambda _: self._probed_soon())
            except EngineError:  # Down just now: whoever generates will hear of it.
                self._next_probe_s = time.monotonic() + _RETRY_PROBE_S
        return self._known_context_tokens

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Continue every prefix, all at the same time within the server's limit.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
            ConfigError: The server is another one than the engine's description says.
            InputError: A request has a grammar.
            BatchError: Only some of the requests failed.
            EngineError: The server failed.
        """
        if not requests:
            return []
        for request in requests:
            if request.grammar is not None:
                _refuse_grammar(self._name)
            self._check_context(len(request.prefix) + request.max_new_tokens)

        async def work(emit: Callable[[_Token], None]) -> list[Continuation | BaseException]:
            tasks = [
                self._continue(index, request, emit if on_token else None)
                for index, request in enumerate(requests)
            ]
            return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = self._run(work, on_token)
        return _results(outcomes)

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """Return the log-probability of each request's labels.

        One request of one token per beginning of a label: one in all, where labels have one token.

        Raises:
            ContextLengthError: A prefix with its longest label exceeds the context.
            ConfigError: Two labels have the same tokens.
            EngineError: The server failed, or does not tell log-probabilities.
        """
        if not requests:
            return []

        async def work(_: Callable[[_Token], None]) -> list[tuple[float, ...]]:
            facts = await self._probed()
            for request in requests:
                self._check_context(len(request.prefix) + max(map(len, request.labels)))
            if self._scorer is None:
                server = shared_server(self._spec)
                self._scorer = LabelScorer(server, self._spec.model, self.tokenizer, facts)
            return await self._scorer.logprobs(requests, self._count)

        scores: list[tuple[float, ...]] = self._run(work)
        return scores

    def release(self, rows: Iterable[str]) -> None:
        """Do nothing: the server forgets by itself what it has no room for."""

    def _run(self, work: Any, on_token: OnToken | None = None) -> Any:
        def on_event(event: _Token) -> None:
            if on_token is not None:
                on_token(*event)

        is_new = self._facts is None
        try:
            return run_in_background(work, on_event)
        finally:
            if is_new and self._facts is not None:
                self._say_what_is_lost(self._facts)

    async def _probed_soon(self) -> ServerFacts:
        async with _deadline(min(_LONGEST_PROBE_S, self._spec.timeout_s), self._spec):
            return await self._probed()

    async def _probed(self) -> ServerFacts:
        if self._probe_lock is None:
            self._probe_lock = asyncio.Lock()
        async with self._probe_lock:
            if self._facts is None:
                server = shared_server(self._spec)
                self._facts = await probe(
                    server, self._spec.model, self.tokenizer, self._local.source
                )
        return self._facts

    def _say_what_is_lost(self, facts: ServerFacts) -> None:
        lost = []
        if not facts.takes_token_prompts:
            lost.append("takes no token prompts: they are sent as text")
        if not facts.returns_token_ids:
            lost.append("returns no token ids: its text is tokenised again")
        if not facts.takes_extras:
            lost.append("refuses vLLM's fields: its own end-of-sequence and defaults count")
        if lost:
            warnings.warn(
                f"{self._spec.base_url} ({self._spec.model}) {'; '.join(lost)}. Segments may be "
                "cut differently from how they would be in this process.",
                stacklevel=4,
            )

    async def _continue(
        self, index: int, request: GenerateRequest, emit: Callable[[_Token], None] | None
    ) -> Continuation:
        def on_token(i: int, token: NewToken) -> None:
            if emit is not None:
                emit((i, token))

        async with _deadline(request.timeout_s, self._spec):
            facts = await self._probed()
            self._check_context(len(request.prefix) + request.max_new_tokens)  # Now it is known.
            model = RemoteModel(
                server=shared_server(self._spec),
                name=self._spec.model,
                tokenizer=self.tokenizer,
                facts=facts,
                max_context_tokens=self._known_context_tokens,
            )
            row = RemoteRow(index, request, model, on_token if emit is not None else None)
            continuation = await row.finish()
        self._count(len(request.prefix), row.cached_tokens)
        return continuation

    @property
    def _known_context_tokens(self) -> int:
        known = self._facts.max_model_len if self._facts else None
        return min(known or self._local.max_context_tokens, self._local.max_context_tokens)

    def _count(self, num_prompt: int, num_cached: int | None) -> None:
        if num_cached is not None:
            use = self._cache_use
            self._cache_use = CacheUse(
                use.prompt_tokens + num_prompt, use.cached_tokens + num_cached
            )

    def _check_context(self, num_tokens: int) -> None:
        if num_tokens > (limit := self._known_context_tokens):
            raise ContextLengthError(
                self._name,
                num_tokens=num_tokens,
                max_tokens=limit,
                hint="shorten the query, lower max_tokens, or start the server with a longer "
                "--max-model-len",
            )


def make_openai_engine(
    spec: OpenAIEngineSpec, source: str, *, revision: str | None = None, name: str | None = None
) -> OpenAIEngine:
    """Return the engine of a model on a server; its tokenizer is read from files here.

    Args:
        spec: Where it is.
        source: Folder or repo with the model's tokenizer.
        revision: Branch, tag or commit of the repo.
        name: What to call the model in messages.

    Raises:
        ModelLoadError: There is no tokenizer.
        ConfigError: The environment variable of the key is not set.
    """
    check_key(spec)
    return OpenAIEngine(spec, load_local_tokenizer(source, revision=revision), name=name)


def _results(outcomes: Sequence[Continuation | BaseException]) -> list[Continuation]:
    """Return what came of all requests, or raise what went wrong with some."""
    kept: list[Continuation | EngineError] = []
    for one in outcomes:
        if not isinstance(one, Continuation | EngineError):
            raise one
        kept.append(one)
    return all_written(kept)


def _refuse_grammar(name: str) -> NoReturn:
    raise InputError(
        f"{name!r} is on a server, where a response cannot be held to a grammar from its middle.",
        hint="let a model in this process be the anchor, or ask without forced tools or a schema",
    )


@asynccontextmanager
async def _deadline(timeout_s: float | None, spec: OpenAIEngineSpec) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as err:
        raise EngineError(
            f"{spec.base_url} ({spec.model}) took longer than {timeout_s:g} s for a segment.",
            hint="allow it more time, or see whether the server is overloaded",
            retryable=True,
        ) from err
