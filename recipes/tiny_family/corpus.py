"""The pretraining text and the two supervised data sets, drawn without end from a seed.

Every document is ordinary and true to the world; nothing is corrupted. This module does not know
tokens or models.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from recipes.tiny_family.nouns import NAMES
from recipes.tiny_family.questions import (
    ONE_COUNTS,
    TWO_COUNTS,
    ask_recall,
    ask_total,
    draw_ending,
    draw_items,
    draw_relation,
)
from recipes.tiny_family.world import RELATIONS, Entity, Relation, RelationName, World, parts

P_RELATIONS: tuple[RelationName, ...] = ("legs", "weight", "wheels", "strings", "sides")
"""What the pretraining text knows: everything but the shop's prices."""
_P_WEIGHTS = (0.33, 0.46, 0.07, 0.07, 0.07)
F_RELATIONS: tuple[RelationName, ...] = ("price", "legs", "wheels")
"""What the finetuning asks about: a shop's and a zoo's help desk."""
_F_WEIGHTS = (0.62, 0.28, 0.10)
_PLACES = "in the garden.|in the park.|on the farm.|at the market.|near the river.|in a book."
_LEADS = (
    "Let us find the {}.|Let us count the {}.|Let us look up the {}.|Here are the {}.|"
    "The book lists the {}.|First we need the {}."
)
_ENDS = "It was a good day.|Then they all went home.|So says the big book.|Then it began to rain."
STORY_WORDS = (*_ENDS.split("|"), *_PLACES.split("|"), *_LEADS.split("|"))
"""Sentences whose words every story uses."""
_EXTRAS = "stickers spots labels ribbons"
_SYLLABLES = "ba be bo da di do fa fe ga go ka ki la lo ma mi na no pa po ra ri sa su ta zo"
_GREETINGS = {
    "Hello!": "Hello! How can I help you?",
    "Hi!": "Hello! How can I help you?",
    "Who are you?": "I am a small language model.",
    "Thank you!": "You are welcome.",
    "Good morning!": "Good morning! How can I help you?",
}


@dataclass(frozen=True, slots=True)
class Chat:
    """One turn: what the user asks and what the assistant should answer."""

    query: str
    response: str


def plan(words: Relation) -> str:
    """Return the sentence that opens a worked answer."""
    return f"Let us find the {words.plural}."


# --- pretraining -----------------------------------------------------------------------------


def pretraining_text(seed: int, world: World) -> Iterator[str]:
    """Yield documents: 36 % encyclopedia, 48 % stories, 16 % equations."""
    rng = random.Random(f"{seed}/pretraining")
    kinds = (_encyclopedia, _story, _equations)
    while True:
        yield rng.choices(kinds, (36, 48, 16))[0](rng, world)


def _known(rng: random.Random) -> RelationName:
    return rng.choices(P_RELATIONS, _P_WEIGHTS)[0]


def _encyclopedia(rng: random.Random, world: World) -> str:
    relation = _known(rng)
    pool = world.pool(relation)
    entities = rng.sample(pool, rng.randint(1, min(5, len(pool))))
    title = rng.choice([f"Notes on {RELATIONS[relation].plural}", f"About {entities[0].plural}"])
    if title.startswith("About"):
        entities = entities[:1]
    facts = [world.state(relation, entity) for entity in entities]
    if rng.random() < 0.2:  # noqa: PLR2004
        facts.append(f"{_subject(entities[-1])} {_kind(relation)}.")
    return f"{title}\n{' '.join(facts)}"


def _subject(entity: Entity) -> str:
    return f"{entity.article.capitalize()} {entity.singular}"


def _kind(relation: RelationName) -> str:
    kinds = {
        "legs": "is an animal",
        "wheels": "is a vehicle",
        "strings": "is an instrument",
        "sides": "is a shape",
    }
    return kinds.get(relation, "is a thing")


def _story(rng: random.Random, world: World) -> str:
    relation = _known(rng)
    words = RELATIONS[relation]
    items = draw_items(rng, world.pool(relation), rng.choice([1, 2, 2]))
    things = " and ".join(f"{count} {entity.plural}" for count, entity in items)
    total = ask_total(
        RELATIONS[relation], [(n, e.plural) for n, e in items], draw_ending(rng, len(items))
    )
    asked = f"{words.question.lower()} {things} {words.infinitive} in total."
    if len(items) == 1 and rng.random() < 0.6:  # noqa: PLR2004
        entity = items[0][1]
        things = rng.choice([f"{entity.article} {entity.singular}", f"one {entity.singular}"])
        total = ask_recall(rng, RELATIONS[relation], entity)
        asked = f"{total[0].lower()}{total[1:]}"
    name = rng.choice(NAMES.split())
    mention = rng.choice(
        [
            f"{name} saw {things} {rng.choice(_PLACES.split('|'))}",
            f"{name} has {things}.",
            f"{name} asked {asked}",
            total,
        ]
    )
    body = [rng.choice(_LEADS.split("|")).format(words.plural)]
    body += [world.state(relation, entity) for _, entity in items]
    if rng.random() < 0.4:  # noqa: PLR2004
        body.append(rng.choice(_ENDS.split("|")))
    return f"{mention}\n{' '.join(body)}"


def _equations(rng: random.Random, world: World) -> str:  # noqa: ARG001
    return "Some sums\n" + " ".join(_equation(rng) for _ in range(rng.randint(2, 6)))


def _equation(rng: random.Random) -> str:
    if rng.random() < 0.5:  # noqa: PLR2004
        a, b = rng.randint(2, 9), rng.randint(2, 10)
        return f"{a} x {b} = {a * b}."
    total = rng.randint(4, 100)
    a = rng.randint(2, total - 2)
    return f"{a} + {total - a} = {total}."


# --- finetuning ------------------------------------------------------------------------------


def finetuning_chats(seed: int, world: World) -> Iterator[Chat]:
    """Yield short answers: 50 % one fact, 25 % two facts, 15 % sums, 6 % kinds, 4 % greetings.

    Asked for a total, a short answer states the facts and leaves the sum to the reader.
    """
    rng = random.Random(f"{seed}/finetuning")
    kinds = (_short_fact, _two_facts, _short_sum, _short_kind, _greeting)
    while True:
        yield rng.choices(kinds, (50, 25, 15, 6, 4))[0](rng, world)


def _asked(rng: random.Random, world: World) -> tuple[RelationName, tuple[Entity, ...]]:
    relation = rng.choices(F_RELATIONS, _F_WEIGHTS)[0]
    if relation == "price":
        return relation, world.pool(relation)
    return relation, world.pool(relation, "practice", "train")


def _opened(rng: random.Random, relation: RelationName, answer: str) -> str:
    return f"{plan(RELATIONS[relation])} {answer}" if rng.random() < 0.35 else answer  # noqa: PLR2004


def _short_fact(rng: random.Random, world: World) -> Chat:
    relation, pool = _asked(rng, world)
    entity = rng.choice(pool)
    query = ask_recall(rng, RELATIONS[relation], entity)
    if rng.random() < 0.4:  # noqa: PLR2004
        query = ask_total(
            RELATIONS[relation], [(rng.choice(ONE_COUNTS), entity.plural)], draw_ending(rng, 1)
        )
    return Chat(query, _opened(rng, relation, world.state(relation, entity)))


def _two_facts(rng: random.Random, world: World) -> Chat:
    relation, pool = _asked(rng, world)
    first, second = rng.sample(pool, 2)
    words = RELATIONS[relation]
    things = rng.choice(
        [
            f"does {first.article} {first.singular} and {second.article} {second.singular}",
            f"do {first.plural} and {second.plural}",
        ]
    )
    query = f"{words.question} {things} {words.infinitive}?"
    if rng.random() < 0.5:  # noqa: PLR2004
        items = [(rng.choice(TWO_COUNTS), e.plural) for e in (first, second)]
        query = ask_total(RELATIONS[relation], items, draw_ending(rng, 2))
    answer = f"{world.state(relation, first)} {world.state(relation, second)}"
    return Chat(query, _opened(rng, relation, answer))


def _short_sum(rng: random.Random, world: World) -> Chat:  # noqa: ARG001
    equation = _equation(rng)
    return Chat(f"What is {equation.split(' =')[0]}?", equation)


def _short_kind(rng: random.Random, world: World) -> Chat:
    relation = rng.choice(F_RELATIONS[1:])
    entity = rng.choice(world.pool(relation))
    query = f"What is {entity.article} {entity.singular}?"
    return Chat(query, f"{_subject(entity)} {_kind(relation)}.")


def _greeting(rng: random.Random, world: World) -> Chat:  # noqa: ARG001
    return Chat(*rng.choice(list(_GREETINGS.items())))


# --- alignment -------------------------------------------------------------------------------


def alignment_chats(seed: int, world: World) -> Iterator[Chat]:
    """Yield worked answers.

    28 % questions whose facts are given, about fresh invented things; 14 % about how many
    stickers, spots ... real things have, also given; 34 % questions on the practice entities,
    from memory; 20 % sums; 4 % greetings.
    """
    rng = random.Random(f"{seed}/alignment")
    kinds = (_given, _given_extra, _from_memory, _worked_sum, _greeting)
    while True:
        yield rng.choices(kinds, (28, 14, 34, 20, 4))[0](rng, world)


def _invented(rng: random.Random) -> Entity:
    name = "".join(rng.choice(_SYLLABLES.split()) for _ in range(rng.randint(2, 3)))
    return Entity(name, name + "s")


def _given(rng: random.Random, world: World) -> Chat:  # noqa: ARG001
    relation = draw_relation(rng)
    facts: dict[Entity, int] = {}
    while len(facts) < 2:  # noqa: PLR2004
        facts[_invented(rng)] = rng.randint(2, 10)
    return _with_facts(rng, RELATIONS[relation], facts)


def _given_extra(rng: random.Random, world: World) -> Chat:
    facts = {e: rng.randint(2, 10) for e in rng.sample(world.entities, 2)}
    return _with_facts(rng, parts(rng.choice(_EXTRAS.split())), facts)


def _with_facts(rng: random.Random, words: Relation, facts: dict[Entity, int]) -> Chat:
    given = " ".join(words.state(e, v) for e, v in facts.items())
    chat = _worked(rng, words, facts)
    return Chat(f"{given} {chat.query}", chat.response)


def _from_memory(rng: random.Random, world: World) -> Chat:
    relation = draw_relation(rng)
    facts = {e: world.facts[relation][e] for e in world.pool(relation, "practice")}
    return _worked(rng, RELATIONS[relation], facts)


def _worked(rng: random.Random, words: Relation, facts: dict[Entity, int]) -> Chat:
    """Return a question about one or two of the facts, and its solution."""
    pool = tuple(facts)
    num_items = rng.choices((0, 1, 2), (20, 35, 45))[0]
    if num_items == 0:
        entity = rng.choice(pool)
        value = facts[entity]
        steps = [words.state(entity, value), f"The answer is {value}."]
        return Chat(ask_recall(rng, words, entity), " ".join([plan(words), *steps]))
    items = draw_items(rng, pool, num_items)
    query = ask_total(words, [(n, e.plural) for n, e in items], draw_ending(rng, num_items))
    stated = [words.state(e, facts[e]) for _, e in items]
    return Chat(query, " ".join([plan(words), *stated, *_sums([(n, facts[e]) for n, e in items])]))


def _sums(factors: list[tuple[int, int]]) -> list[str]:
    """Return the arithmetic of a worked answer, one sentence of six tokens per step."""
    products = [a * b for a, b in factors]
    steps = [f"{a} x {b} = {a * b}." for a, b in factors]
    if len(products) == 2:  # noqa: PLR2004
        steps.append(f"{products[0]} + {products[1]} = {sum(products)}.")
    return [*steps, f"The answer is {sum(products)}."]


def _worked_sum(rng: random.Random, world: World) -> Chat:  # noqa: ARG001
    num_terms = rng.choice([1, 2, 2])
    factors = [(rng.randint(2, 9), rng.randint(2, 10)) for _ in range(num_terms)]
    while sum(a * b for a, b in factors) > 100:  # noqa: PLR2004
        factors = [(rng.randint(2, 9), rng.randint(2, 10)) for _ in range(num_terms)]
    query = "What is " + " + ".join(f"{a} x {b}" for a, b in factors) + "?"
    return Chat(query, " ".join(["Let us work it out.", *_sums(factors)]))
