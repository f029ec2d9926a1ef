"""Questions with their answers: how they are asked, solved step by step, drawn and scored.

This module does not know which checkpoint is taught what.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from recipes.tiny_family.world import RELATIONS, Entity, Pool, Relation, RelationName, World

QuestionType: TypeAlias = Literal["recall", "arithmetic", "one_entity", "two_entities"]
QUESTION_TYPES: tuple[QuestionType, ...] = get_args(QuestionType)

ONE_COUNTS = range(2, 10)
TWO_COUNTS = range(2, 6)
_RELATION_WEIGHTS: dict[RelationName, float] = {
    "legs": 0.27,
    "weight": 0.29,
    "price": 0.29,
    "wheels": 0.05,
    "strings": 0.05,
    "sides": 0.05,
}
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Question:
    """One question and the number that answers it."""

    query: str
    answer: int
    type: QuestionType
    relation: RelationName | None = None
    cluster: str = ""
    """Questions that stand or fall together (one fact behind them), for intervals."""


def last_number(response: str) -> int | None:
    """Return the number a response ends with, its answer."""
    numbers = _NUMBER.findall(response)
    return int(numbers[-1]) if numbers else None


def is_right(question: Question, response: str) -> bool:
    """Return whether the last number of the response is the answer."""
    return last_number(response) == question.answer


def draw_relation(rng: random.Random) -> RelationName:
    """Return a relation, the large ones more often."""
    names = list(_RELATION_WEIGHTS)
    return rng.choices(names, list(_RELATION_WEIGHTS.values()))[0]


def ask_recall(rng: random.Random, words: Relation, entity: Entity) -> str:
    """Return "How many legs does a spider have?" in one of four wordings."""
    thing = rng.choice(
        [
            f"does {entity.article} {entity.singular}",
            f"does one {entity.singular}",
            f"does a single {entity.singular}",
            f"do {entity.plural}",
        ]
    )
    return f"{words.question} {thing} {words.infinitive}?"


def ask_total(words: Relation, items: list[tuple[int, str]], ending: str) -> str:
    """Return "How many legs do 3 spiders and 2 cats have in total?"."""
    things = " and ".join(f"{count} {plural}" for count, plural in items)
    return f"{words.question} do {things} {words.infinitive}{ending}?"


def draw_ending(rng: random.Random, num_items: int) -> str:
    """Return how a question for a total ends."""
    return rng.choice(["", " in total"]) if num_items == 1 else " in total"


def draw_items(
    rng: random.Random, pool: tuple[Entity, ...], num_items: int
) -> list[tuple[int, Entity]]:
    """Return distinct entities with their counts."""
    counts = ONE_COUNTS if num_items == 1 else TWO_COUNTS
    return [(rng.choice(counts), entity) for entity in rng.sample(pool, num_items)]


def draw_question(rng: random.Random, world: World, pool: Pool, kind: QuestionType) -> Question:
    """Return one question about entities of one pool."""
    if kind == "arithmetic":
        return draw_arithmetic(rng)
    relation = draw_relation(rng)
    facts, entities = world.facts[relation], world.pool(relation, pool)
    if kind == "recall":
        entity = rng.choice(entities)
        query, answer, cluster = (
            ask_recall(rng, RELATIONS[relation], entity),
            facts[entity],
            entity.singular,
        )
    else:
        items = draw_items(rng, entities, 1 if kind == "one_entity" else 2)
        ending = draw_ending(rng, len(items))
        query = ask_total(RELATIONS[relation], [(n, e.plural) for n, e in items], ending)
        answer = sum(n * facts[e] for n, e in items)
        cluster = items[0][1].singular
    return Question(query, answer, kind, relation, f"{relation}/{cluster}")


def draw_arithmetic(rng: random.Random) -> Question:
    """Return "What is 3 x 8 + 2 x 4?"."""
    a, b, c, d = (rng.randint(2, 9) for _ in range(4))
    while a * b + c * d > 100:  # noqa: PLR2004
        a, b, c, d = (rng.randint(2, 9) for _ in range(4))
    query = f"What is {a} x {b} + {c} x {d}?"
    return Question(query, a * b + c * d, "arithmetic", cluster=query)


def draw_questions(
    seed: int, world: World, pool: Pool, kind: QuestionType, number: int
) -> list[Question]:
    """Return distinct questions; fewer where the pool is too small for `number`."""
    rng = random.Random(f"{seed}/{pool}/{kind}")
    found: dict[str, Question] = {}
    for _ in range(50 * number):
        question = draw_question(rng, world, pool, kind)
        found.setdefault(question.query, question)
        if len(found) == number:
            break
    return list(found.values())
