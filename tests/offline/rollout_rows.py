"""Rollouts made by hand: what a collection stores, without generating anything."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langgraph_switch.config import SwitchConfig
from langgraph_switch.families import embedded_config
from langgraph_switch.offline.rows import rollout_row
from langgraph_switch.offline.settings import RolloutSettings, describe_run
from langgraph_switch.offline.shards import ShardFolder
from langgraph_switch.queries import trace_from_query
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Message, Segment, Trace

NAMES = ("pretrained", "finetuned", "aligned")
WORDS = ("legs", "strings", "sides")
"""The word of a query that decides who is best; one per candidate."""
SETTINGS = RolloutSettings(completions=2)


def prefix(query: str, *segments: tuple[str, str], config: SwitchConfig | None = None) -> Trace:
    """Return a trace in which speakers have written texts."""
    trace = trace_from_query(query, config or embedded_config())
    for speaker, text in segments:
        segment = Segment(
            speaker=speaker,
            text=text,
            token_ids=tuple(range(2, 8)),
            tokenizer="?",
            decided_by="random",
            finish_reason="length",
        )
        trace = trace.append(segment)
    return trace


def row(
    query_id: str,
    query: str,
    scores: Sequence[Sequence[float | None]],
    *segments: tuple[str, str],
    config: SwitchConfig | None = None,
) -> dict[str, Any]:
    """Return a row with these scores of the candidates' completions."""
    return rollout_row(
        Example(id=query_id, messages=(Message(role="user", content=query),)),
        prefix=prefix(query, *segments, config=config),
        cut=0.5,
        scores=scores,
        error=None if all(scores) else "the judge was away",
        settings=SETTINGS,
        config_hash="0123456789abcdef",
    )


def learnable_rows(number: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows in which a word of the query decides who is best, two rows per query."""
    rng = random.Random(seed)  # noqa: S311
    rows = []
    for index in range(number):
        best = (index // 2) % 3
        query = f"How many {WORDS[best]} do {rng.randint(2, 9)} spiders have in total?"
        others = rng.random() / 2
        scores = [[1.0, 1.0] if i == best else [others, others] for i in range(3)]
        speaker = rng.choice(NAMES)
        rows.append(row(f"q{index // 2}", query, scores, (speaker, "One spider has 8 legs.")))
    return rows


def write_rollouts(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    config: SwitchConfig | None = None,
    settings: RolloutSettings = SETTINGS,
) -> Path:
    """Store rows as a finished collection."""
    task = {"name": "spiders", "split": "train", "queries": len(rows)}
    manifest = describe_run(config or embedded_config(), settings, task=task)
    shards = ShardFolder(folder, manifest)
    for index, start in enumerate(range(0, len(rows), 64)):
        shards.write(index, rows[start : start + 64])
    return folder
