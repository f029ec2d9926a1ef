"""The card: every figure is read from `scores.json` and `training.json`, none is typed.

This module does not know models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recipes.tiny_family.questions import QUESTION_TYPES
from recipes.tiny_family.switching import MAX_TOKENS, NAMES, SEGMENT_TOKENS


def write_card(folder: Path) -> None:
    """Write the family's README.md beside its artifacts."""
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text(_card(folder, scores, training), encoding="utf-8")


def _card(folder: Path, scores: dict[str, Any], training: dict[str, Any]) -> str:
    size = sum(file.stat().st_size for file in folder.glob("*/model.safetensors"))
    return _CARD.format(
        parameters=f"{training['pretrained']['parameters']:,}",
        megabytes=f"{size / 1e6:.1f}",
        kinds=", ".join(kind.replace("_", " ") for kind in QUESTION_TYPES),
        segment=SEGMENT_TOKENS,
        tokens=MAX_TOKENS,
        stages=_stage_table(training),
        rounds=_round_table(training["switcher"]["rounds"]),
        scores=_score_table(scores["scores"]),
        relations=_relation_table(scores["by_relation"]),
        speakers=_speaker_table(scores["trained_switcher"]),
        minutes=round(sum(entry["seconds"] for entry in training.values()) / 60),
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _stage_table(training: dict[str, Any]) -> str:
    columns = ["steps", "rows_per_step", "learning_rate", "seconds"]
    rows = [[name, *(f"{training[name][c]:g}" for c in columns)] for name in NAMES]
    return _table(["stage", *(c.replace("_", " ") for c in columns)], rows)


def _round_table(rounds: list[dict[str, Any]]) -> str:
    rows = []
    for number, entry in enumerate(rounds, start=1):
        dev = ", ".join(f"{entry['dev_percent'][kind]:.1f}" for kind in QUESTION_TYPES)
        states = f"{entry['states']} ({entry['states_that_matter']})"
        name = f"{number} (shipped)" if entry.get("kept") else f"{number}"
        cells = [entry["questions"], entry["epsilon"], states, entry["steps"], dev]
        rows.append([name, *map(str, cells), str(entry["seconds"])])
    header = ["round", "questions", "epsilon", "states (that matter)", "steps", "dev %", "seconds"]
    return _table(header, rows)


def _score_table(scores: dict[str, Any]) -> str:
    numbers = next(iter(scores.values()))
    header = [f"{kind.replace('_', ' ')} ({numbers[kind]['number']})" for kind in QUESTION_TYPES]
    rows = []
    for name, by_kind in scores.items():
        cells = [
            f"{s['percent']:.1f} [{s['low']:.1f}, {s['high']:.1f}]"
            for s in (by_kind[kind] for kind in QUESTION_TYPES)
        ]
        rows.append([f"**{name}**" if name == "trained switcher" else name, *cells])
    return _table(["condition", *header], rows)


def _relation_table(by_relation: dict[str, Any]) -> str:
    shown = [*(f"{name} alone" for name in NAMES), "trained switcher"]
    relations = list(by_relation[shown[0]]["one_entity"])
    rows = [
        [n, *(f"{by_relation[n]['one_entity'].get(r, 0):.0f}" for r in relations)] for n in shown
    ]
    return _table(["one entity, %", *relations], rows)


def _speaker_table(trained: dict[str, Any]) -> str:
    rows = []
    for kind in QUESTION_TYPES:
        entry = trained[kind]
        tokens = entry["tokens_by_candidate"]
        total = sum(tokens.values())
        shares = [f"{100 * tokens.get(name, 0) / total:.0f} %" for name in NAMES]
        new = entry["solved_where_all_alone_fail"]
        solved = f"{new['trained switcher']} / {new['failed']}"
        chance = f"{new['random switching']} / {new['failed']}"
        rows.append([kind.replace("_", " "), *shares, solved, chance])
    header = ["question", *NAMES, "solved where all alone fail", "random switching there"]
    return _table(header, rows)


_CARD = """\
# The embedded family

Three checkpoints of one training pipeline and a switcher, {parameters} parameters each
({megabytes} MB in half precision together), trained from scratch on a CPU in about {minutes}
minutes by `python -m recipes.tiny_family`. They exist so that switching can be tried, tested and
taught without a download. They know a few hundred facts and two operations; they are no
assistants.

## Data
Everything is drawn by code from a seed; nothing is corrupted on purpose. Legs, wheels, strings
and sides are facts of the real world; weights and prices are a fictional shop's.

- **pretrained**: raw text. 36 % encyclopedia, 48 % stories and questions that mention things and
  go on to state their facts, 16 % equations. It knows all facts but the shop's prices, and no
  chat format.
- **finetuned** (from pretrained): short chat answers about prices, legs and wheels (75 %), sums
  (15 %), kinds of things and greetings. Asked for a total, a short answer states the facts and
  leaves the sum to the reader. It learns the shop's prices, and forgets most of what its
  questions leave out: weights, strings and sides.
- **aligned** (from finetuned): worked answers, one sentence a step, on preferred answers only (no
  reinforcement or preference loss): 28 % with all facts given, about freshly invented things;
  14 % about how many stickers, spots, labels or ribbons real things have, also given; 34 % from
  memory, about a quarter of the things; 20 % sums; greetings. It reasons well, and has forgotten
  most facts it did not practise.
- **switcher** (from aligned): rollouts on questions about the train pool. A state's target is
  the softmax of the three candidates' utilities. Prefixes and completions came from an exploring
  policy (the aligned checkpoint, later the last round's switcher, with probability epsilon a
  random candidate), not from purely random switching.

Every relation's things are split: practice (all stages), train (switcher training), dev (all
choices), held (the report). Spiders and cats, the documentation's example, are in the train pool.

{stages}

{rounds}

Dev figures are for {kinds}.

## Scores
Held-out things, a test seed used once, greedy decoding, {segment} tokens a segment, at most
{tokens} tokens. Right means: the last number of the response is the answer. In brackets 95 %
bootstrap intervals over facts (questions about one fact are resampled together).

{scores}

"without" forbids the trained switcher one candidate; aligned still opens and closes.

{relations}

Who wrote the trained switcher's tokens, and what switching solves that no checkpoint solves
alone:

{speakers}

## Limits
One seed. The sentences of this world have six tokens, as long as a segment, so a turn ends where
a sentence ends; with other segment lengths the scores fall. Questions in other words, unknown
things, counts above 9 and numbers above 100 are answered wrongly. Scores on this world say
nothing about real checkpoints.
"""
