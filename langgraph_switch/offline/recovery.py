"""How much of the switch's gain a distilled model keeps, and what that saves.

Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from langgraph_switch.offline.responses import Response
from langgraph_switch.offline.statistics import mean_interval, paired_difference

BEFORE, SWITCHED, AFTER = "anchor before", "switch", "distilled anchor"
_RESAMPLES = 2000
_TAIL = 2.5


def compare_distilled(
    answered: Mapping[str, Sequence[Response]],
    clusters: Sequence[str],
    *,
    names: tuple[str, str, str],
) -> dict[str, Any]:
    """Return scores, the share of the gain recovered and the cost ratio, as plain JSON types.

    Args:
        answered: Responses to the same questions by condition.
        clusters: Per question what it stands or falls with.
        names: The anchor before, the switch, and the anchor after.
    """
    before, switched, after = names
    scores = {name: [one.score for one in answered[name]] for name in names}
    rows = [
        (*values, cluster)
        for *values, cluster in zip(*scores.values(), clusters, strict=True)
        if None not in values
    ]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    kept = [row[-1] for row in rows]
    return {
        "scores": {
            name: asdict(mean_interval(columns[name], kept))
            | {
                "seconds_per_answer": fmean(one.seconds for one in answered[name]),
                "tokens_per_answer": fmean(one.trace.num_tokens for one in answered[name]),
            }
            for name in names
        },
        "failed_scores": len(clusters) - len(rows),
        "gain": asdict(paired_difference(columns[after], columns[before], kept)),
        "against_switch": asdict(paired_difference(columns[after], columns[switched], kept)),
        "gain_recovered": recovered_share(columns[before], columns[switched], columns[after], kept),
        "cost_ratio": _cost_ratio(answered[after], answered[switched]),
    }


def recovered_share(
    before: Sequence[float],
    switched: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, float | None]:
    """Return (after - before) / (switched - before) with a paired bootstrap interval.

    Clusters are resampled whole. Without a gain there is nothing to recover: all None.
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([order[name] for name in clusters])
    sums = np.zeros((len(order), 2))  # Per cluster: what was recovered, what there was to gain.
    np.add.at(sums[:, 0], index, np.subtract(after, before))
    np.add.at(sums[:, 1], index, np.subtract(switched, before))
    recovered, gained = sums.sum(axis=0)
    if gained <= 0:
        return {"share": None, "low": None, "high": None}
    drawn = np.random.default_rng(seed).integers(0, len(order), (_RESAMPLES, len(order)))
    resampled = sums[drawn].sum(axis=1)
    shares = resampled[resampled[:, 1] > 0]
    low, high = np.percentile(shares[:, 0] / shares[:, 1], [_TAIL, 100 - _TAIL])
    return {"share": float(recovered / gained), "low": float(low), "high": float(high)}


def _cost_ratio(after: Sequence[Response], switched: Sequence[Response]) -> float | None:
    seconds = sum(one.seconds for one in switched)
    return sum(one.seconds for one in after) / seconds if seconds else None
