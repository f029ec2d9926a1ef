"""The engine contract: "continue this token prefix".

An engine serves one model. It is semantically stateless: whatever it remembers between calls
(rows of keys and values, a server's prefix cache) changes the time, never the result. It knows
nothing of candidates, switching or LangChain.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from langgraph_switch.config import GREEDY, Sampling, SegmentBoundary
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

FinishReason: TypeAlias = Literal["length", "boundary", "eos", "stop", "grammar", "failed"]
"""Why a continuation ended; engines never answer `failed`, they raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """Continue `prefix` by at most `max_new_tokens` tokens."""

    row: str
    """Names the memory that this request may reuse and leaves behind; calls with the same row
    are fast when their prefixes share a beginning, and right in any case."""
    prefix: Sequence[int]
    """The whole prompt and response so far, as token ids of this engine's model."""
    response_start: int
    """Index in `prefix` where the response begins: stop strings and characters cut in the
    middle are completed across it, never across the prompt."""
    max_new_tokens: int
    sampling: Sampling = GREEDY
    seed: int = 0
    """Seeds every draw of this request; greedy sampling draws nothing."""
    eos_token_ids: tuple[int, ...] = ()
    """Tokens that end the continuation; they are not part of it."""
    masked_token_ids: tuple[int, ...] = ()
    """Tokens that may not be generated."""
    stop: tuple[str, ...] = ()
    """Strings that end the continuation, also when they began before it."""
    end_at: SegmentBoundary = "length"
    """End behind the token that ends a sentence, a line or a code block, if that comes before
    `max_new_tokens`."""
    grammar: str | None = None
    """A Lark grammar (llguidance) that the text from `response_start` on has to follow; the
    continuation ends where nothing may follow any more. Engines that cannot constrain refuse."""
    extra_tokens: int | None = None
    """If given, end on a complete character: go on for up to so many tokens after
    `max_new_tokens`, and leave out what is incomplete even then."""
    fork_of: str | None = None
    """A row to copy the memory from, if `row` has none yet."""
    timeout_s: float | None = None
    """Seconds after which an engine that can break off gives up, with a retryable error. Models in
    this process cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What an engine wrote."""

    token_ids: tuple[int, ...]
    text: str
    """The new complete characters, with any stop string and what followed it in its token."""
    pending_text: str = ""
    """What an incomplete character at the end would be decoded to."""
    finish_reason: FinishReason
    prefill_tokens: int = 0
    """Prefix tokens that were computed."""
    cached_tokens: int = 0
    """Prefix tokens that were remembered."""


class BatchError(EngineError):
    """Some requests of a batch failed; what became of the others is not lost.

    Attributes:
        outcomes: Per request, in order, its continuation or its error.
    """

    def __init__(self, outcomes: Sequence[Continuation | EngineError]) -> None:
        errors = [one for one in outcomes if isinstance(one, EngineError)]
        first = errors[0]
        super().__init__(
            f"{len(errors)} of {len(outcomes)} requests failed. {first.message}",
            hint=first.hint,
            retryable=all(error.retryable for error in errors),
            retry_after_s=first.retry_after_s,
        )
        self.outcomes = tuple(outcomes)


def all_written(outcomes: Sequence[Continuation | EngineError]) -> list[Continuation]:
    """Return every request's continuation, if none has failed.

    Raises:
        EngineError: The only request failed.
        BatchError: Some of several did; it holds the others' continuations.
    """
    errors = [one for one in outcomes if isinstance(one, EngineError)]
    if errors and len(outcomes) == 1:
        raise errors[0]
    if errors:
        raise BatchError(outcomes) from errors[0]
    return [one for one in outcomes if isinstance(one, Continuation)]


class ScoresNoLabels:
    """Marks an engine that cannot say how probable labels are: it is no LM switcher's."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call the model in messages."""

    lacks: str = "label probabilities"
    """What a candidate on this engine goes without; told once, when a switch is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRequest:
    """How probable is each of a few labels right after `prefix`?"""

    row: str
    prefix: Sequence[int]
    labels: tuple[tuple[int, ...], ...]
    """Token ids of each label; one may begin like another ("1" and "10")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenRequest:
    """What does the model make of `prefix`?"""

    row: str
    prefix: Sequence[int]
    fork_of: str | None = None
    """A row to copy the memory from, if `row` has none yet."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """One token as it is generated."""

    token_id: int
    text: str
    """Characters that this token completes; empty while one is incomplete."""


OnToken: TypeAlias = Callable[[int, NewToken], None]
"""Called with the request's index and its new token, in the thread of the call."""


class Writer(Protocol):
    """Whatever continues token prefixes."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Continue every prefix; see `Engine.generate`."""
        ...


class Engine(Protocol):
    """One model that continues token prefixes. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def vocab_size(self) -> int:
        """How many token ids the model knows: the rows of its embedding."""
        ...

    @property
    def max_context_tokens(self) -> int:
        """Most tokens of prompt and response together."""
        ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens with which the model ends a turn or a document."""
        ...

    def generate(
        self, requests: Sequence[GenerateRequest], on_token: OnToken | None = None
    ) -> list[Continuation]:
        """Continue every prefix; results are in the requests' order.

        Raises:
            ContextLengthError: A prefix and its new tokens exceed the context.
            BatchError: Only some of the requests failed.
            EngineError: The model failed; the requests can be sent again.
        """
        ...

    def label_logprobs(self, requests: Sequence[LabelRequest]) -> list[tuple[float, ...]]:
        """Return the log-probability of each request's labels, in one forward pass.

        A label that begins another one counts only where the other does not follow. The
        probabilities of one request sum to at most 1.
        """
        ...

    def release(self, rows: Iterable[str]) -> None:
        """Forget rows; unknown ones are ignored."""
        ...


@runtime_checkable
class HoldsRows(Protocol):
    """An engine whose memory between calls is this process's own."""

    def rows_that_fit(self, num_tokens: int) -> int:
        """Return how many rows of that many tokens can be held between calls."""
        ...


@runtime_checkable
class HiddenStateEngine(Engine, Protocol):
    """An engine that also shows its model's hidden states; servers do not."""

    @property
    def hidden_size(self) -> int:
        """Width of one hidden state."""
        ...

    def last_hidden(self, requests: Sequence[HiddenRequest]) -> list[Tensor]:
        """Return the last layer's normalised state of each prefix's last token.

        Each has shape [hidden_size], float32 on the CPU. It is one forward pass over what is new;
        whoever continues the row afterwards finds all of it but the last token computed.

        Raises:
            ContextLengthError: A prefix exceeds the context.
            EngineError: The model failed; the requests can be sent again.
        """
        ...
