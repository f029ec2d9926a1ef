"""Rounds of rollouts and training: each round's switcher explores for the next one.

Round 1 explores around the aligned checkpoint: it writes, and with probability epsilon somebody
else does. Later rounds explore around the last switcher, and learn from the last round's rollouts
beside their own. The round that does best on the dev questions is kept. This module does not know
files or cards.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from transformers import LlamaForCausalLM

from recipes.tiny_family.questions import Question, QuestionType, draw_questions, is_right
from recipes.tiny_family.rollout import Rollout, RolloutPlan, collect
from recipes.tiny_family.switcher import switcher_rows, train_switcher
from recipes.tiny_family.switching import (
    ALIGNED,
    AlwaysPolicy,
    ExploringPolicy,
    Family,
    LMPolicy,
    Policy,
    State,
    run,
)
from recipes.tiny_family.training import Schedule
from recipes.tiny_family.world import World

TRAINING_MIX: dict[QuestionType, float] = {
    "recall": 0.2,
    "arithmetic": 0.1,
    "one_entity": 0.3,
    "two_entities": 0.4,
}
DEV_QUESTIONS = 150
_DEV_SEED, _TRAIN_SEED = 5, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round's settings."""

    questions: int
    epsilon: float
    """Probability of a random candidate in prefixes and completions."""
    steps: int
    learning_rate: float = 1e-3


DEFAULT_ROUNDS = (
    Round(questions=600, epsilon=0.3, steps=200),
    Round(questions=700, epsilon=0.15, steps=300),
    Round(questions=800, epsilon=0.15, steps=400),
)


@dataclass(frozen=True, slots=True)
class Learned:
    """The kept switcher and what each round did."""

    model: LlamaForCausalLM
    rounds: list[dict[str, Any]]


def learn(
    family: Family,
    aligned: LlamaForCausalLM,
    world: World,
    seed: int,
    rounds: Sequence[Round] = DEFAULT_ROUNDS,
) -> Learned:
    """Return the best switcher of all rounds."""
    rng = random.Random(f"{seed}/switcher")
    recent: list[list[Rollout]] = []
    models: list[LlamaForCausalLM] = []
    records: list[dict[str, Any]] = []
    base: Policy = AlwaysPolicy(ALIGNED)
    for number, settings in enumerate(rounds):
        started = time.perf_counter()
        questions = training_questions(seed + _TRAIN_SEED + number, world, settings.questions)
        policy = ExploringPolicy(base, settings.epsilon, rng)
        new = collect(family, questions, policy, RolloutPlan(), rng)
        recent = [*recent[-1:], new]
        schedule = Schedule(
            steps=settings.steps,
            rows_per_step=32,
            learning_rate=settings.learning_rate,
            seed=seed + number,
        )
        models.append(train_switcher(family.tokenizer, aligned, [*chain(*recent)], schedule))
        base = LMPolicy(models[-1])
        records.append(
            {
                "questions": len(questions),
                "epsilon": settings.epsilon,
                "states": len(new),
                "states_that_matter": len(switcher_rows(family.tokenizer, new)),
                "steps": settings.steps,
                "learning_rate": settings.learning_rate,
                "dev_percent": dev_scores(family, base, world, seed),
                "seconds": round(time.perf_counter() - started),
            }
        )
    best = max(range(len(models)), key=lambda i: sum(records[i]["dev_percent"].values()))
    records[best]["kept"] = True
    return Learned(models[best], records)


def training_questions(seed: int, world: World, number: int) -> list[Question]:
    """Return questions about the train pool, of all types."""
    return [
        question
        for kind, part in TRAINING_MIX.items()
        for question in draw_questions(seed, world, "train", kind, round(number * part))
    ]


def dev_scores(family: Family, policy: Policy, world: World, seed: int) -> dict[str, float]:
    """Return a policy's percentage of right answers on the dev pool, by question type."""
    scores: dict[str, float] = {}
    for kind in TRAINING_MIX:
        questions = draw_questions(seed + _DEV_SEED, world, "dev", kind, DEV_QUESTIONS)
        states = run(family, [State(q.query) for q in questions], policy)
        right = [is_right(q, family.text(s)) for q, s in zip(questions, states, strict=True)]
        scores[kind] = round(100 * sum(right) / len(right), 1)
    return scores
