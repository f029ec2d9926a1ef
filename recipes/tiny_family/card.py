"""The card: every figure is read from `scores.json` and `training.json`, none is typed.

This module does not know models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langgraph_switch.report.markdown import markdown_table
from langgraph_switch.report.table import interval
from recipes.tiny_family.learning import EPSILON
from recipes.tiny_family.pack import MAX_TOKENS, NAMES, SEGMENT_TOKENS
from recipes.tiny_family.questions import QUESTION_TYPES


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
        epsilon=EPSILON,
        none=_solved_by_none(scores["solved_by_none"]),
        speakers=_speaker_table(scores["tokens_by_candidate"]),
        minutes=round(sum(entry["seconds"] for entry in training.values()) / 60),
    )


def _stage_table(training: dict[str, Any]) -> str:
    columns = ["steps", "rows_per_step", "learning_rate", "seconds"]
    rows = [[name, *(f"{training[name][c]:g}" for c in columns)] for name in NAMES]
    return markdown_table(["stage", *(c.replace("_", " ") for c in columns)], rows)


def _round_table(rounds: list[dict[str, Any]]) -> str:
    rows = []
    for number, entry in enumerate(rounds, start=1):
        dev = ", ".join(f"{entry['dev_percent'][kind]:.1f}" for kind in QUESTION_TYPES)
        name = f"{number} (shipped)" if entry.get("kept") else f"{number}"
        numbers = (entry[key] for key in ("queries", "decided", "training_rows", "steps"))
        rows.append([name, entry["completer"], *map(str, numbers), dev, str(entry["seconds"])])
    head = ["round", "completed by", "rows", "decided", "trained on", "steps", "dev %", "seconds"]
    return markdown_table(head, rows)


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
    return markdown_table(["condition", *header], rows)


def _speaker_table(tokens: dict[str, dict[str, int]]) -> str:
    rows = []
    for kind in QUESTION_TYPES:
        total = sum(tokens[kind].values())
        shares = [f"{100 * tokens[kind].get(name, 0) / total:.0f} %" for name in NAMES]
        rows.append([kind.replace("_", " "), *shares])
    return markdown_table(["question", *NAMES], rows)


def _solved_by_none(found: dict[str, Any]) -> str:
    hot = found["sampled"]
    switch, best, anybody = (
        interval(hot[key]) for key in ("switch", "best single again", "any single again")
    )
    return (
        f"Sampled at temperature 0.7, {hot['failed']} questions are failed by every checkpoint's "
        f"first sample; of these the switch's first sample solves {switch} %, a second sample of "
        f"the best single {best} %, a second sample of any single {anybody} %."
    )


_CARD = """\
---
library_name: langgraph-switch
license: apache-2.0
---

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
- **switcher** (from aligned): rollouts on questions about the train pool by the package's own
  graphs. A state's target is the softmax of the three candidates' utilities. The first round's
  prefixes and completions came from the aligned checkpoint, later ones from the last round's
  switcher, in both with probability {epsilon:g} from a random candidate instead; not from purely
  random switching, which answers too few two-entity questions to tell candidates apart.

Every relation's things are split: practice (all stages), train (switcher training), dev (all
choices), held (the report). Spiders and cats, the documentation's example, are in the train pool.

{stages}

{rounds}

Dev figures are for {kinds}.

## Scores
Held-out things, questions of split `test` of `tiny/mixed`, greedy decoding, {segment} tokens a
segment, at most {tokens} tokens. Right means: the last number of the response is the answer. In
brackets 95 % bootstrap intervals over facts (questions about one fact are resampled together).

{scores}

"without" forbids the trained switcher one candidate; aligned still opens and closes. Routing asks
the switcher once, behind the opening.

{none}

Who wrote the trained switcher's tokens:

{speakers}

## Limits
One seed. The sentences of this world have six tokens, as long as a segment, so a turn ends where
a sentence ends; with other segment lengths the scores fall. Questions in other words, unknown
things, counts above 9 and numbers above 100 are answered wrongly. Scores on this world say
nothing about real checkpoints.
"""
