"""Facts, and who is taught them: entities, relations, and the split of every relation.

Pools of a relation: `practice` (every stage), `train` (the switcher's training questions), `dev`
(every choice made while building), `held` (the final report, nothing else). The pretraining text
holds the facts of all pools but for prices, which only the finetuning's shop list knows. This
module does not know sentences of the corpora, tokens or models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from recipes.tiny_family.nouns import GOODS, LEGS, SIDES, STRINGS, WHEELS, split_noun

Pool: TypeAlias = Literal["practice", "train", "dev", "held"]
POOLS: tuple[Pool, ...] = ("practice", "train", "dev", "held")
RelationName: TypeAlias = Literal["legs", "wheels", "strings", "sides", "weight", "price"]

WORLD_SEED = 11
"""Draws the splits, the weights and the shop's prices; a build's own seed never changes them."""
_SHARES: dict[Pool, float] = {"practice": 0.27, "train": 0.27, "dev": 0.16, "held": 0.30}
_LOWEST, _HIGHEST = 2, 9


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of thing, as it is written."""

    singular: str
    plural: str

    @property
    def article(self) -> str:
        """`a` or `an`."""
        is_vowel = self.singular[0] in "aeiou" and not self.singular.startswith("uku")
        return "an" if is_vowel else "a"


@dataclass(frozen=True, slots=True)
class Relation:
    """What is asked about a thing, and the words to ask and to state it with."""

    plural: str
    """Names the quantity: "Let us find the legs."."""
    verb: str
    """States one fact: "A spider has 8 legs."."""
    unit: str
    question: str
    """`one`, `many` questions begin with it: "How many legs"."""
    infinitive: str

    def state(self, entity: Entity, value: int) -> str:
        """Return the fact as a sentence of six tokens."""
        subject = f"{entity.article.capitalize()} {entity.singular}"
        return f"{subject} {self.verb} {value} {self.unit}."


def parts(name: str) -> Relation:
    """Return the words for how many of something a thing has."""
    return Relation(name, "has", name, f"How many {name}", "have")


RELATIONS: dict[RelationName, Relation] = {
    "legs": parts("legs"),
    "wheels": parts("wheels"),
    "strings": parts("strings"),
    "sides": parts("sides"),
    "weight": Relation("weights", "weighs", "kilos", "How many kilos", "weigh"),
    "price": Relation("prices", "costs", "dollars", "How much", "cost"),
}
TRUE_FACTS: dict[RelationName, dict[int, str]] = {
    "legs": LEGS,
    "wheels": WHEELS,
    "strings": STRINGS,
    "sides": SIDES,
}
_DEMO_TRAIN_POOL = {"spider", "cat"}
"""Examples of the documentation: in the train pool by decree, so never part of the report."""


@dataclass(frozen=True)
class World:
    """All facts and their split."""

    facts: dict[RelationName, dict[Entity, int]]
    pools: dict[RelationName, dict[Pool, tuple[Entity, ...]]]

    def pool(self, relation: RelationName, *names: Pool) -> tuple[Entity, ...]:
        """Return the entities of some pools of a relation, of all without `names`."""
        return tuple(e for name in names or POOLS for e in self.pools[relation][name])

    def state(self, relation: RelationName, entity: Entity) -> str:
        """Return a fact as a sentence."""
        return RELATIONS[relation].state(entity, self.facts[relation][entity])

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """Every entity once."""
        return tuple({entity: None for facts in self.facts.values() for entity in facts})


def _entities(text: str) -> list[Entity]:
    return [Entity(*split_noun(entry)) for entry in text.split()]


def _split(entities: list[Entity], rng: random.Random) -> dict[Pool, tuple[Entity, ...]]:
    shuffled = [e for e in entities if e.singular not in _DEMO_TRAIN_POOL]
    rng.shuffle(shuffled)
    pools: dict[Pool, tuple[Entity, ...]] = {}
    start, share = 0, 0.0
    for name in POOLS:
        share += _SHARES[name]
        end = round(share * len(shuffled))
        pools[name] = tuple(shuffled[start:end])
        start = end
    demo = tuple(e for e in entities if e.singular in _DEMO_TRAIN_POOL)
    pools["train"] += demo
    return pools


def build_world(seed: int = WORLD_SEED) -> World:
    """Return the world: true facts, and weights and prices drawn once."""
    rng = random.Random(seed)
    facts: dict[RelationName, dict[Entity, int]] = {
        name: {e: value for value, text in table.items() for e in _entities(text)}
        for name, table in TRUE_FACTS.items()
    }
    goods = _entities(GOODS)
    for name in ("weight", "price"):
        values = [_LOWEST + i % (_HIGHEST - _LOWEST + 1) for i in range(len(goods))]
        rng.shuffle(values)
        facts[name] = dict(zip(goods, values, strict=True))
    pools = {name: _split(list(table), rng) for name, table in facts.items()}
    return World(facts, pools)
