"""What is said to a `/v1/completions` server, and what its answers mean. Pure functions.

Knows nothing of connections. Fields beyond OpenAI's own are vLLM's; servers that do not know them
mostly accept them in silence, so answers are read for their effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from langgraph_switch.engines.base import GenerateRequest

if TYPE_CHECKING:
    from openai.types import Completion, CompletionChoice

PROBE_TEXT = "In 1984, naïve café owners wrote: x_1 = [42] + 日本語; don't stop!\n\n\tThe end."
"""Text that different tokenizers cut differently."""
_NEVER = -100
_MAX_STOPS = 4  # OpenAI's limit; the rest is watched on this side alone.

ScoreSource: TypeAlias = Literal["ids", "forced", "top"]
"""How a server tells a token's log-probability: of tokens named by id, of a token that it is made
to choose, or of its most probable ones only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server can do, as its answers have shown."""

    max_model_len: int | None = None
    takes_token_prompts: bool = True
    takes_extras: bool = True
    returns_token_ids: bool = True

    @property
    def is_exact(self) -> bool:
        """Whether tokens go both ways, so that nothing is tokenised again."""
        return self.takes_token_prompts and self.returns_token_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer, or the whole."""

    token_ids: tuple[int, ...] | None = None
    """None where the server tells only text."""
    text: str = ""
    is_end: bool = False
    ended_at: Literal["length", "eos", "stop"] = "length"
    cached_tokens: int | None = None


def generate_fields(
    request: GenerateRequest, facts: ServerFacts, *, max_tokens: int, seed: int
) -> dict[str, Any]:
    """Return OpenAI's own fields of a request, prompt aside."""
    sampling = request.sampling
    fields: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": 0.0 if sampling.is_greedy else sampling.temperature,
        "top_p": 1.0 if sampling.is_greedy else sampling.top_p,
        "seed": seed,
    }
    if request.stop and facts.is_exact:
        fields["stop"] = list(request.stop[:_MAX_STOPS])
    if request.masked_token_ids:
        fields["logit_bias"] = {str(token_id): _NEVER for token_id in request.masked_token_ids}
    return fields


def generate_extras(request: GenerateRequest, facts: ServerFacts) -> dict[str, Any]:
    """Return vLLM's fields: whatever its generation_config.json says must not count."""
    if not facts.takes_extras:
        return {}
    extras: dict[str, Any] = {
        "return_token_ids": True,
        "top_k": 0 if request.sampling.is_greedy else request.sampling.top_k or 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,  # Those of `stop_token_ids` count, and no others.
        "add_special_tokens": False,
    }
    if request.eos_token_ids:
        extras["stop_token_ids"] = list(request.eos_token_ids)
    if request.stop:
        extras["include_stop_str_in_output"] = True
    return extras


def read_piece(completion: Completion) -> Piece:
    """Return what an answer, or an event of a stream, holds."""
    cached = read_cached_tokens(completion)
    if not completion.choices:
        return Piece(token_ids=(), cached_tokens=cached)
    choice = completion.choices[0]
    extra = choice.model_extra or {}
    token_ids = extra.get("token_ids")
    reason: str | None = choice.finish_reason  # A stream's events have none until the last.
    ended_at: Literal["length", "eos", "stop"] = "length"
    if reason == "stop":
        ended_at = "stop" if isinstance(extra.get("stop_reason"), str) else "eos"
    return Piece(
        token_ids=None if token_ids is None else tuple(token_ids),
        text=choice.text or "",
        is_end=reason is not None,
        ended_at=ended_at,
        cached_tokens=cached,
    )


def read_cached_tokens(completion: Completion) -> int | None:
    """Return how many prompt tokens the server remembered, if it says so."""
    details = completion.usage.prompt_tokens_details if completion.usage else None
    return details.cached_tokens if details else None


def score_fields(token_ids: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields, and vLLM's, that ask for raw log-probabilities of tokens named by id."""
    extras = {
        "logprob_token_ids": list(token_ids),
        "return_tokens_as_token_ids": True,
        "add_special_tokens": False,
        "return_token_ids": True,
    }
    return {"logprobs": 1, "max_tokens": 1, "temperature": 0.0}, extras


def forced_fields(token_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields, and vLLM's, that ask how likely a token was that has to be chosen."""
    extras = {
        "allowed_token_ids": [token_id],
        "return_tokens_as_token_ids": True,
        "add_special_tokens": False,
        "return_token_ids": True,
    }
    return {"logprobs": 1, "max_tokens": 1, "temperature": 0.0}, extras


def read_scores(
    choice: CompletionChoice, token_ids: Sequence[int], texts: Sequence[str]
) -> dict[int, float]:
    """Return the log-probabilities that an answer's first token lists, of tokens that matter.

    Args:
        choice: The answer.
        token_ids: The tokens.
        texts: Their texts, for servers that list tokens as such.
    """
    listed = _first_listed(choice)
    found: dict[int, float] = {}
    for token_id, text in zip(token_ids, texts, strict=True):
        for key in (f"token_id:{token_id}", text):
            if key in listed:
                found[token_id] = listed[key]
                break
    return found


def read_forced(choice: CompletionChoice, token_id: int) -> float | None:
    """Return the chosen token's log-probability, if it is the token that was to be chosen."""
    logprobs = choice.logprobs
    if not logprobs or not logprobs.token_logprobs or not logprobs.tokens:
        return None
    ids = (choice.model_extra or {}).get("token_ids")
    is_chosen = logprobs.tokens[0] == f"token_id:{token_id}" or ids == [token_id]
    return logprobs.token_logprobs[0] if is_chosen else None


def label_scores(
    labels: Sequence[tuple[int, ...]], steps: Mapping[tuple[int, ...], Mapping[int, float]]
) -> tuple[float, ...]:
    """Return each label's log-probability, as `LabelTree.logprobs` does from logits.

    Args:
        labels: Their tokens.
        steps: Behind each beginning of a label, the log-probability of the tokens that go on.
    """
    return tuple(_label_score(label, steps) for label in labels)


def label_steps(labels: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """Return, per beginning of a label, the tokens with which labels go on behind it."""
    steps: dict[tuple[int, ...], list[int]] = {}
    for label in labels:
        for depth, token_id in enumerate(label):
            siblings = steps.setdefault(label[:depth], [])
            if token_id not in siblings:
                siblings.append(token_id)
    return steps


def _label_score(
    label: tuple[int, ...], steps: Mapping[tuple[int, ...], Mapping[int, float]]
) -> float:
    score = sum(steps[label[:depth]][token_id] for depth, token_id in enumerate(label))
    going_on = sum(math.exp(value) for value in steps.get(label, {}).values())
    if going_on >= 1:
        return -math.inf
    return score + math.log1p(-going_on)


def _first_listed(choice: CompletionChoice) -> dict[str, float]:
    logprobs = choice.logprobs
    if not logprobs:
        return {}
    listed = dict((logprobs.top_logprobs or [{}])[0] or {})
    if logprobs.tokens and logprobs.token_logprobs:
        listed.setdefault(logprobs.tokens[0], logprobs.token_logprobs[0])
    return listed
