"""The in-process engine: one transformers model (and perhaps an adapter) with prefix reuse.

Owns the model's rows and runs calls one after the other. Knows nothing of candidates.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from langgraph_switch.engines.base import (
    Continuation,
    GenerateRequest,
    HiddenRequest,
    LabelRequest,
    OnToken,
)
from langgraph_switch.engines.batch import RowBatch
from langgraph_switch.engines.coalesce import Coalescer
from langgraph_switch.engines.decoding import RowProgress
from langgraph_switch.engines.grammar import GrammarMask, GrammarVocabulary, RowGrammar
from langgraph_switch.engines.hidden import HiddenStateModel
from langgraph_switch.engines.kv import KVStore
from langgraph_switch.engines.labels import LabelTree
from langgraph_switch.engines.memory import row_capacity
from langgraph_switch.engines.mixed_batch import MixedRowBatch
from langgraph_switch.engines.models import SharedModel
from langgraph_switch.engines.sampling import RowSampler
from langgraph_switch.engines.sharing import Addressed, Meeting
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ContextLengthError, EngineError, EngineOutOfMemoryError

if TYPE_CHECKING:
    from langgraph_switch.engines.adapter_stack import RowAdapters


class TransformersEngine:
    """Continues token prefixes with a causal LM held by this process.

    Thread-safe: models on the same device take turns, and calls that wait for the same model
    are computed as one batch.
    """

    def __init__(
        self,
        model: SharedModel,
        tokenizer: Tokenizer,
        *,
        adapter: str | None = None,
        kv_cache_bytes: int = 2 * 2**30,
        max_coalesced: int = 64,
        name: str | None = None,
    ) -> None:
        """Serve a model.

        Args:
            model: The weights, perhaps shared with other engines.
            tokenizer: The model's tokenizer.
            adapter: Name of an adapter that `model` has loaded; None for the bare weights.
            kv_cache_bytes: Most bytes of keys and values kept between calls.
            max_coalesced: Most label requests of concurrent calls that are computed as one batch.
            name: What to call the model in messages; by default its source.
        """
        self._shared = model
        self._adapter = adapter
        self._tokenizer = tokenizer
        self._store = KVStore(kv_cache_bytes)
        self._name = name or model.source
        self._vocabulary: GrammarVocabulary | None = None
        self._label_batch = Coalescer[LabelRequest, tuple[float, ...]](
            self._label_logprobs, model.lock, max_requests=max_coalesced
        )
        self._hidden_batch = Coalescer[HiddenRequest, Tensor](
            self._last_hidden, model.lock, max_requests=max_coalesced
        )

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return self._name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """How many token ids the model knows: the rows of its embedding."""
        return self._shared.vocab_size

    @property
    def max_context_tokens(self) -> int:
        """Most tokens of prompt and response together."""
        return self._shared.max_context_tokens

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens with which the model ends a turn or a document."""
        return self._shared.eos_token_ids_of(self._adapter)

    @property
    def model(self) -> SharedModel:
        """The weights, perhaps shared with other engines."""
        return self._shared

    @property
    def meeting(self) -> Meeting:
        """Where requests to the base and to its adapters meet."""
        return self._shared.meeting

    @property
    def hidden_size(self) -> int:
        """Width of one hidden state."""
        return int(self._shared.module.config.get_text_config().hidden_size)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values held now."""
        return self._store.num_bytes

    def rows_that_fit(self, num_tokens: int) -> int:
        """Return how many rows of that many tokens can be held between calls."""
        return self._store.max_bytes // (self._shared.kv_bytes_per_token * row_capacity(num_tokens))

    @property
    def num_rows(self) -> int:
        """Rows held now."""
        return len(self._store)

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Continue every prefix, all in one batch.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
            EngineOutOfMemoryError: The device has too little memory for this batch.
            EngineError: The model computed NaN.
        """
        if not requests:
            return []
        return self.meeting(self.addressed(requests), on_token)

    def addressed(self, requests: Sequence[GenerateRequest]) -> list[Addressed]:
        """Return checked requests that say that they are for this engine.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
        """
        for request in requests:
            self._check_context(len(request.prefix) + request.max_new_tokens)
        return [Addressed(self, request) for request in requests]

    def answer(
        self, addressed: Sequence[Addressed], on_token: OnToken | None
    ) -> list[Continuation]:
        """Continue prefixes for engines of this base, in one pass if its adapters allow it."""
        if len({one.engine for one in addressed}) == 1 or self._shared.can_mix():
            return self._generate(addressed, on_token)
        results: dict[int, Continuation] = {}
        for engine in dict.fromkeys(one.engine for one in addressed):
            indices = [i for i, one in enumerate(addressed) if one.engine is engine]
            part = [addressed[i] for i in indices]
            found = engine.answer(part, on_token and _with_indices(on_token, indices))
            results |= zip(indices, found, strict=True)
        return [results[index] for index in range(len(addressed))]

    def _generate(
        self, addressed: Sequence[Addressed], on_token: OnToken | None
    ) -> list[Continuation]:
        # The turn is held, so no row is away.
        order = _largest_first([one.engine.num_lacking(one.request) for one in addressed])
        requests = [addressed[index].request for index in order]
        engines = [addressed[index].engine for index in order]
        owners = [one for one in engines if isinstance(one, TransformersEngine)]
        with self._working(owners) as adapters:
            progress = [
                RowProgress(index, request, owner.tokenizer, on_token)
                for index, owner, request in zip(order, owners, requests, strict=True)
            ]
            batch = self._batch(
                owners,
                requests,
                num_new_columns=_most_tokens(requests),
                forks=[request.fork_of for request in requests],
                adapters=adapters,
            )
            grammars = [
                owner._grammar(request)  # noqa: SLF001 - an engine of the same weights
                for owner, request in zip(owners, requests, strict=True)
            ]
            try:
                self._decode(batch, progress, grammars)
            finally:
                _keep_rows(owners, requests, batch)
        written = [
            row.continuation(cached_tokens=cached, prefill_tokens=len(request.prefix) - cached)
            for row, request, cached in zip(progress, requests, batch.num_cached, strict=True)
        ]
        return [one for _, one in sorted(zip(order, written, strict=True), key=itemgetter(0))]

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """Return the log-probability of each request's labels, in one forward pass.

        Raises:
            ContextLengthError: A prefix with its longest label exceeds the context.
            ConfigError: Two labels have the same tokens.
            EngineOutOfMemoryError: The device has too little memory for this batch.
        """
        if not requests:
            return []
        for request in requests:
            self._check_context(len(request.prefix) + max(map(len, request.labels), default=0))
        return self._label_batch(requests)

    def _label_logprobs(
        self, requests: Sequence[LabelRequest], _on_token: OnToken | None
    ) -> list[tuple[float, ...]]:
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[request.labels].append(index)
        results: list[tuple[float, ...]] = [()] * len(requests)
        for labels, members in groups.items():
            tree = LabelTree(labels)
            order = _largest_first([self.num_lacking(requests[index]) for index in members])
            indices = [members[place] for place in order]
            group = [requests[index] for index in indices]
            owners = [self] * len(group)
            with self._working(owners):
                batch = self._batch(owners, group, num_new_columns=len(tree.nodes))
                try:
                    logits = self._checked(batch.prefill(tree.nodes))
                    scores = tree.logprobs(logits).tolist()
                    batch.store([()] * len(group))
                finally:
                    _keep_rows(owners, group, batch)
            for index, row in zip(indices, scores, strict=True):
                results[index] = tuple(row)
        return results

    def last_hidden(self, requests: Sequence[HiddenRequest]) -> list[Tensor]:
        """Return the last layer's normalised state of each prefix's last token.

        Raises:
            ContextLengthError: A prefix exceeds the context.
            EngineOutOfMemoryError: The device has too little memory for this batch.
            EngineError: The model computed NaN.
        """
        if not requests:
            return []
        for request in requests:
            self._check_context(len(request.prefix))
        return self._hidden_batch(requests)

    def _last_hidden(
        self, requests: Sequence[HiddenRequest], _on_token: OnToken | None
    ) -> list[Tensor]:
        owners = [self] * len(requests)
        with self._working(owners):
            order = _largest_first([self.num_lacking(request) for request in requests])
            group = [requests[index] for index in order]
            batch = self._batch(
                owners,
                group,
                num_new_columns=0,
                forks=[request.fork_of for request in group],
                model=HiddenStateModel(self._shared.module),
            )
            try:
                states = self._checked(batch.prefill()[:, -1]).float().cpu()
                batch.store([()] * len(group))
            finally:
                _keep_rows(owners, group, batch)
        found = dict(zip(order, states.clone().unbind(), strict=True))
        return [found[index] for index in range(len(requests))]

    def release(self, rows: Iterable[str]) -> None:
        """Forget rows; unknown ones are ignored."""
        with self._shared.lock:
            self._store.release(rows)

    def _decode(
        self,
        batch: RowBatch,
        progress: Sequence[RowProgress],
        grammars: Sequence[RowGrammar | None],
    ) -> None:
        logits = self._checked(batch.prefill()[:, -1])
        requests = [row.request for row in progress]
        sampler = RowSampler.prepare(
            [request.sampling for request in requests],
            [request.seed for request in requests],
            num_steps=_most_tokens(requests),
            device=logits.device,
        )
        mask = _TokenMask(requests, logits)
        allowed = GrammarMask(grammars, self.vocab_size)
        tokens = [row.token_ids for row in progress]
        live = list(progress)
        step = 0
        while True:
            next_ids = sampler.sample(mask.apply(allowed.apply(logits)), step)
            for row, grammar, token_id in zip(live, grammars, next_ids.tolist(), strict=True):
                row.accept(token_id, grammar)
            going = [index for index, row in enumerate(live) if not row.is_finished]
            if not going:
                break
            if 2 * len(going) <= len(live):  # Ended rows cost as much as live ones: drop them.
                batch.keep(going, tokens)
                index = torch.tensor(going, device=logits.device)
                sampler, next_ids = sampler.select(index), next_ids[index]
                live = [live[i] for i in going]
                grammars = [grammars[i] for i in going]
                allowed = GrammarMask(grammars, self.vocab_size)
                mask = _TokenMask([row.request for row in live], logits)
            logits = batch.step(next_ids)
            step += 1
        batch.store(tokens)

    def _grammar(self, request: GenerateRequest) -> RowGrammar | None:
        if request.grammar is None:
            return None
        if self._vocabulary is None:
            self._vocabulary = GrammarVocabulary(
                self._tokenizer,
                vocab_size=self.vocab_size,
                eos_token_ids=self.eos_token_ids,
                name=self.name,
            )
        written = request.prefix[request.response_start :]
        return RowGrammar(self._vocabulary, request.grammar, written)

    def num_lacking(self, request: GenerateRequest | LabelRequest | HiddenRequest) -> int:
        """Return how many tokens of a request's prefix its row does not have."""
        fork_of = None if isinstance(request, LabelRequest) else request.fork_of
        shared = self._store.num_shared(request.row, request.prefix, fork_of=fork_of)
        return len(request.prefix) - shared

    def _batch(
        self,
        owners: Sequence[TransformersEngine],
        requests: Sequence[GenerateRequest | LabelRequest | HiddenRequest],
        *,
        num_new_columns: int,
        forks: Sequence[str | None] | None = None,
        adapters: RowAdapters | None = None,
        model: HiddenStateModel | None = None,
    ) -> RowBatch:
        forks = forks or [None] * len(requests)
        rows = [
            owner._store.take(request.row, fork_of=fork)  # noqa: SLF001 - of the same weights
            for owner, request, fork in zip(owners, requests, forks, strict=True)
        ]
        prefixes = [request.prefix for request in requests]
        module = self._shared.module if model is None else cast("PreTrainedModel", model)
        if adapters is None:
            return RowBatch(module, rows, prefixes, num_new_columns=num_new_columns)
        return MixedRowBatch(
            module, rows, prefixes, num_new_columns=num_new_columns, adapters=adapters
        )

    def _check_context(self, num_tokens: int) -> None:
        if num_tokens > self.max_context_tokens:
            raise ContextLengthError(
                self.name,
                num_tokens=num_tokens,
                max_tokens=self.max_context_tokens,
                hint="shorten the query, or lower max_tokens",
            )

    def _checked(self, logits: Tensor) -> Tensor:
        if bool(torch.isnan(logits).any()):
            raise EngineError(
                f"{self.name!r} computed NaN.",
                hint="set this model's dtype to 'float32' or 'bfloat16'",
            )
        return logits

    @contextlib.contextmanager
    def _working(self, owners: Sequence[TransformersEngine]) -> Iterator[RowAdapters | None]:
        """Hold the weights, with the owners' adapters, for one call.

        Yields:
            The rows' adapters where they differ; None where all rows use the same.
        """
        names = [owner._adapter for owner in owners]  # noqa: SLF001 - of the same weights
        with self._shared.lock, torch.inference_mode(), contextlib.ExitStack() as mixed:
            adapters = None
            if len(set(names)) == 1:
                self._shared.activate(names[0])
            else:
                adapters = self._shared.rows_of(names)
                mixed.enter_context(self._shared.stack().using(adapters))
            try:
                yield adapters
            except RuntimeError as err:  # torch.OutOfMemoryError is one; CPUs raise plain ones.
                if not is_out_of_memory(err):
                    raise
                for owner in owners:
                    owner._store.clear()  # noqa: SLF001 - of the same weights
                raise EngineOutOfMemoryError(
                    f"{self.name!r} ran out of memory on {self._shared.module.device}.",
                    hint="lower limits.live_traces, limits.kv_cache_bytes or max_tokens, or give "
                    "this model another `device` or a smaller `dtype`",
                ) from err


def _largest_first(num_lacking: Sequence[int]) -> list[int]:
    """Return the order in which a batch catches up fastest: who lacks most comes first."""
    return sorted(range(len(num_lacking)), key=num_lacking.__getitem__, reverse=True)


def _keep_rows(
    owners: Sequence[TransformersEngine],
    requests: Sequence[GenerateRequest | LabelRequest | HiddenRequest],
    batch: RowBatch,
) -> None:
    for owner, request, row in zip(owners, requests, batch.rows, strict=True):
        owner._store.put(request.row, row)  # noqa: SLF001 - an engine of the same weights


def _with_indices(on_token: OnToken, indices: Sequence[int]) -> OnToken:
    return lambda index, token: on_token(indices[index], token)


def _most_tokens(requests: Sequence[GenerateRequest]) -> int:
    return max(request.max_new_tokens + (request.extra_tokens or 0) for request in requests)


class _TokenMask:
    """Takes tokens that a row may not generate out of its logits."""

    def __init__(self, requests: Sequence[GenerateRequest], logits: Tensor) -> None:
        pairs = [(r, t) for r, request in enumerate(requests) for t in request.masked_token_ids]
        self._pairs = torch.tensor(pairs, device=logits.device).T if pairs else None

    def apply(self, logits: Tensor) -> Tensor:
        if self._pairs is not None:
            logits[self._pairs[0], self._pairs[1]] = -torch.inf
        return logits


def is_out_of_memory(err: BaseException) -> bool:
    """Return whether an error of torch says that a device has no memory left."""
    text = str(err)
    return isinstance(err, torch.OutOfMemoryError) or "can't allocate memory" in text
