"""One row of rollouts: a query, a prefix, and how good it is to let each candidate write next.

Knows nothing of how completions were written or where rows are stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from langgraph_switch.offline.labels import utilities
from langgraph_switch.offline.provenance import versions
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.tasks import Example
from langgraph_switch.trace import Trace

FAILED_LABEL = -1
"""The label of a row of which a candidate has no score at all."""


def rollout_row(
    example: Example,
    *,
    prefix: Trace,
    cut: float,
    scores: Sequence[Sequence[float | None]],
    error: str | None,
    settings: RolloutSettings,
    config_hash: str,
) -> dict[str, Any]:
    """Return a row as plain JSON types.

    Args:
        example: What was asked.
        prefix: The trace at whose end the candidates were compared.
        cut: The share of a whole response at which it was cut.
        scores: Per candidate the scores of its completions, None where scoring failed.
        error: Why, if it did.
        settings: How the rollouts were made.
        config_hash: Of everything that decides what the rows are; the manifest explains it.
    """
    known = [[value for value in row if value is not None] for row in scores]
    is_scored = all(known)
    found = utilities(
        known if is_scored else [[0.0]] * len(known), temperature=settings.soft_label_temperature
    )
    return {
        "query_id": example.id,
        "query": example.query,
        "cut": cut,
        "num_prefix_segments": len(prefix.segments),
        "num_prefix_tokens": prefix.num_tokens,
        "prefix": json.dumps(_timeless(prefix).to_json(), ensure_ascii=False),
        "scores": known,
        "means": list(found.means),
        "standard_errors": list(found.standard_errors),
        "label": found.label if is_scored else FAILED_LABEL,
        "margin": found.margin,
        "is_tie": found.is_tie,
        "soft_labels": list(found.soft_labels),
        "num_completions": sum(len(row) for row in scores),
        "num_failed_scores": sum(value is None for row in scores for value in row),
        "error": error,
        "completer": settings.completer,
        "seed": prefix.seed,
        "config_hash": config_hash,
        "versions": ", ".join(f"{name} {one}" for name, one in versions().items()),
    }


def _timeless(trace: Trace) -> Trace:
    """Return a trace without times and cache hits, so that equal runs store equal rows."""
    nothing: dict[str, Any] = {
        "decide_s": 0.0,
        "generate_s": 0.0,
        "prefill_tokens": 0,
        "cached_tokens": 0,
    }
    return replace(trace, segments=tuple(replace(one, **nothing) for one in trace.segments))


def summarize_rows(rows: Iterable[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return what a collection of rows amounts to, for people and manifests."""
    found = list(rows)
    usable = [row for row in found if row["label"] != FAILED_LABEL and not row["is_tie"]]
    labels = {name: sum(row["label"] == i for row in usable) for i, name in enumerate(names)}
    errors = sorted({row["error"] for row in found if row["error"]})
    scored = [row for row in found if row["label"] != FAILED_LABEL]
    return {
        "rows": len(found),
        "decided": len(usable),
        "ties": sum(bool(row["is_tie"]) for row in scored),
        "failed": len(found) - len(scored),
        "failed_scores": sum(row["num_failed_scores"] for row in found),
        "errors": errors[:3],
        "labels": labels,
        "completions": sum(row["num_completions"] for row in found),
        "mean_scores": {
            name: round(sum(row["means"][i] for row in scored) / max(1, len(scored)), 4)
            for i, name in enumerate(names)
        },
    }
