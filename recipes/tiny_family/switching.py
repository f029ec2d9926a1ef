"""Traces of the family and the policies that decide who writes next.

The rules are those of the package (anchors, endings, the switcher's prompt), in the smallest form
that rollouts need. This module does not know how policies are trained.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from langgraph_switch.prompts.switcher import closing_question, segment_block
from recipes.tiny_family.sampler import GreedyModel, Written, label_logits
from recipes.tiny_family.stages import chat_prompt
from recipes.tiny_family.tokenizer import decode, encode

PRETRAINED, FINETUNED, ALIGNED = range(3)
NAMES = ("pretrained", "finetuned", "aligned")
PLAIN_TEMPLATE = "{query}\n"
SEGMENT_TOKENS = 6
MAX_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Part:
    """One segment: who wrote which tokens."""

    speaker: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A response so far."""

    query: str
    parts: tuple[Part, ...] = ()
    is_finished: bool = False

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The response's tokens."""
        return tuple(token for part in self.parts for token in part.token_ids)

    @property
    def silent(self) -> frozenset[int]:
        """Candidates that had nothing to say since somebody last wrote."""
        found = set()
        for part in reversed(self.parts):
            if part.token_ids:
                break
            found.add(part.speaker)
        return frozenset(found)

    @property
    def is_anchored(self) -> bool:
        """Whether the next segment is the first or the last one, and so the anchor's."""
        is_end = not self.parts or MAX_TOKENS - len(self.token_ids) <= SEGMENT_TOKENS
        return is_end and ALIGNED not in self.silent


@dataclass(frozen=True)
class Family:
    """The candidates, ready to write."""

    tokenizer: PreTrainedTokenizerFast
    candidates: tuple[GreedyModel, ...]
    _prompts: dict[tuple[bool, str], tuple[int, ...]] = field(default_factory=dict)

    def prompt(self, speaker: int, query: str) -> tuple[int, ...]:
        """Return what a candidate reads before the response."""
        is_plain = speaker == PRETRAINED
        if (is_plain, query) not in self._prompts:
            plain = encode(self.tokenizer, PLAIN_TEMPLATE.format(query=query))
            ids = plain if is_plain else chat_prompt(self.tokenizer, query)
            self._prompts[is_plain, query] = tuple(ids)
        return self._prompts[is_plain, query]

    def text(self, state: State) -> str:
        """Return the response as text."""
        return decode(self.tokenizer, state.token_ids)

    def extend(self, states: Sequence[State], speakers: Sequence[int]) -> list[State]:
        """Return every state with one more segment, by its speaker."""
        extended: dict[int, State] = {}
        for speaker, model in enumerate(self.candidates):
            rows = [i for i, chosen in enumerate(speakers) if chosen == speaker]
            prefixes = [self.prompt(speaker, states[i].query) + states[i].token_ids for i in rows]
            for i, written in zip(rows, model.write(prefixes, SEGMENT_TOKENS), strict=True):
                extended[i] = _append(states[i], speaker, written)
        return [extended[i] for i in range(len(states))]


def _append(state: State, speaker: int, written: Written) -> State:
    tokens_left = MAX_TOKENS - len(state.token_ids)
    extended = State(state.query, (*state.parts, Part(speaker, written.token_ids[:tokens_left])))
    is_finished = (
        (written.hit_eos and speaker == ALIGNED)
        or len(extended.token_ids) >= MAX_TOKENS
        or len(extended.silent) == len(NAMES)
    )
    return replace(extended, is_finished=is_finished)


class Policy(Protocol):
    """Decides who writes next."""

    def choose(self, family: Family, states: Sequence[State]) -> list[int]:
        """Return one candidate per state."""
        ...


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """Uniform over the allowed candidates."""

    rng: random.Random
    allowed: tuple[int, ...] = (PRETRAINED, FINETUNED, ALIGNED)

    def choose(self, family: Family, states: Sequence[State]) -> list[int]:  # noqa: ARG002
        """Return one candidate per state."""
        return [self.rng.choice([c for c in self.allowed if c not in s.silent]) for s in states]


@dataclass(frozen=True, slots=True)
class AlwaysPolicy:
    """One candidate, whatever happened."""

    speaker: int

    def choose(self, family: Family, states: Sequence[State]) -> list[int]:  # noqa: ARG002
        """Return one candidate per state."""
        return [self.speaker for _ in states]


@dataclass(frozen=True, slots=True)
class ExploringPolicy:
    """Follows another policy, and with probability `epsilon` a random candidate instead."""

    base: Policy
    epsilon: float
    rng: random.Random

    def choose(self, family: Family, states: Sequence[State]) -> list[int]:
        """Return one candidate per state."""
        chosen = self.base.choose(family, states)
        wild = RandomPolicy(self.rng).choose(family, states)
        return [
            w if c in s.silent or self.rng.random() < self.epsilon else c
            for c, w, s in zip(chosen, wild, states, strict=True)
        ]


@dataclass(frozen=True)
class LMPolicy:
    """A causal LM that reads who wrote what and names the next speaker, greedily."""

    model: LlamaForCausalLM
    allowed: tuple[int, ...] = (PRETRAINED, FINETUNED, ALIGNED)
    _memory: dict[tuple[int, ...], list[float]] = field(default_factory=dict)

    def choose(self, family: Family, states: Sequence[State]) -> list[int]:
        """Return one candidate per state."""
        prompts = [tuple(switcher_prompt(family.tokenizer, state)) for state in states]
        if todo := list(dict.fromkeys(p for p in prompts if p not in self._memory)):
            logits = label_logits(self.model, todo, label_tokens(family.tokenizer))
            self._memory.update(zip(todo, logits.tolist(), strict=True))
        return [
            max(
                (c for c in self.allowed if c not in state.silent),
                key=self._memory[prompt].__getitem__,
            )
            for prompt, state in zip(prompts, states, strict=True)
        ]


@cache
def _question(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Return the tokens of the closing question and of each candidate's label."""
    whole = [encode(tokenizer, f"{closing_question(len(NAMES))}{i}") for i in range(len(NAMES))]
    return whole[0][:-1], [ids[-1] for ids in whole]


def label_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the tokens with which a switcher names the candidates."""
    return _question(tokenizer)[1]


def switcher_prompt(tokenizer: PreTrainedTokenizerFast, state: State) -> list[int]:
    """Return the paper's question about a state, tokenised piece by piece."""
    ids = encode(tokenizer, state.query)
    for part in state.parts:
        text = decode(tokenizer, part.token_ids)
        ids += encode(tokenizer, segment_block(part.speaker, text))
    return ids + _question(tokenizer)[0]


def run(family: Family, states: Sequence[State], policy: Policy) -> list[State]:
    """Continue every state to its end; the anchor opens and closes."""
    states = list(states)
    while live := [i for i, state in enumerate(states) if not state.is_finished]:
        chosen = policy.choose(family, [states[i] for i in live])
        chosen = [
            ALIGNED if states[i].is_anchored else c for i, c in zip(live, chosen, strict=True)
        ]
        extended = family.extend([states[i] for i in live], chosen)
        for i, state in zip(live, extended, strict=True):
            states[i] = state
    return states
