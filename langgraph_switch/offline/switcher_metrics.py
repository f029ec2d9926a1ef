"""How well a switcher chooses on rows that it was not trained on: accuracy, regret, calibration.

The probabilities are those of the real `LMSwitcher`, so that what is measured is what is served.
Knows nothing of training or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph_switch.offline.statistics import mean_interval
from langgraph_switch.offline.training_rows import prefix_trace
from langgraph_switch.switchers.base import Switcher, Turn

_BEST = 1e-9
_NUM_BINS = 10
_ROWS_AT_ONCE = 32


def predict(switcher: Switcher, rows: Sequence[dict[str, Any]]) -> list[tuple[float, ...]]:
    """Return, per rollout row, how probable the switcher finds each candidate."""
    predictions: list[tuple[float, ...]] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        turns = [
            Turn(prefix_trace(row), f"measure/{start + index}")
            for index, row in enumerate(rows[start : start + _ROWS_AT_ONCE])
        ]
        predictions += switcher.probabilities(turns)
        switcher.release([turn.row for turn in turns])
    return predictions


def switcher_metrics(
    rows: Sequence[dict[str, Any]],
    predictions: Sequence[Sequence[float]],
    *,
    names: Sequence[str],
    anchor: str,
    majority: str,
) -> dict[str, Any]:
    """Compare a switcher's choices with three that read nothing; plain JSON types.

    Args:
        rows: Held-out rollout rows with their candidates' means.
        predictions: The switcher's probabilities for each of them.
        names: The candidates in order.
        anchor: The candidate that a cautious user would always let speak.
        majority: The candidate that is the label most often in the training rows.

    Returns:
        `n`, `queries`, the switcher's `accuracy` and `regret` (each a mean with its 95 %
        interval, queries resampled whole), `calibration_error`, `brier`, and `baselines` with
        accuracy and regret of `anchor`, `random` and `majority`; None where there are no rows.
    """
    always = {name: _one_hot(index, len(names)) for index, name in enumerate(names)}
    uniform = [1 / len(names)] * len(names)
    chosen = [_one_hot(_first_best(one), len(names)) for one in predictions]
    return {
        "n": len(rows),
        "queries": len({row["query_id"] for row in rows}),
        **_choice_metrics(rows, chosen),
        "calibration_error": _calibration_error(rows, predictions),
        "brier": _brier(rows, predictions),
        "baselines": {
            "anchor": {"candidate": anchor, **_choice_metrics(rows, [always[anchor]] * len(rows))},
            "random": _choice_metrics(rows, [uniform] * len(rows)),
            "majority": {
                "candidate": majority,
                **_choice_metrics(rows, [always[majority]] * len(rows)),
            },
        },
    }


def best_candidates(row: dict[str, Any]) -> list[bool]:
    """Return for each candidate whether none has a higher mean."""
    best = max(row["means"])
    return [best - mean <= _BEST for mean in row["means"]]


def _choice_metrics(
    rows: Sequence[dict[str, Any]], chosen: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Return expected accuracy and regret of choosing each candidate that often."""
    right = [
        sum(share for share, is_best in zip(shares, best_candidates(row), strict=True) if is_best)
        for row, shares in zip(rows, chosen, strict=True)
    ]
    lost = [
        max(row["means"])
        - sum(share * mean for share, mean in zip(shares, row["means"], strict=True))
        for row, shares in zip(rows, chosen, strict=True)
    ]
    clusters = [row["query_id"] for row in rows]
    return {"accuracy": _interval(right, clusters), "regret": _interval(lost, clusters)}


def _interval(values: Sequence[float], clusters: Sequence[str]) -> dict[str, float] | None:
    if not values:
        return None
    found = mean_interval(values, clusters)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def _calibration_error(
    rows: Sequence[dict[str, Any]], predictions: Sequence[Sequence[float]]
) -> float | None:
    """Return the expected calibration error of the first choice, in bins of equal width."""
    if not rows:
        return None
    bins: list[list[float]] = [[] for _ in range(_NUM_BINS)]
    for row, probabilities in zip(rows, predictions, strict=True):
        choice = _first_best(probabilities)
        confidence = probabilities[choice]
        index = min(int(confidence * _NUM_BINS), _NUM_BINS - 1)
        bins[index].append(float(best_candidates(row)[choice]) - confidence)
    return sum(abs(sum(gaps)) for gaps in bins) / len(rows)


def _brier(rows: Sequence[dict[str, Any]], predictions: Sequence[Sequence[float]]) -> float | None:
    """Return the mean squared distance to the best candidate, 0 to 2."""
    if not rows:
        return None
    total = 0.0
    for row, probabilities in zip(rows, predictions, strict=True):
        best = best_candidates(row)
        total += sum(
            (probability - is_best / sum(best)) ** 2
            for probability, is_best in zip(probabilities, best, strict=True)
        )
    return total / len(rows)


def _one_hot(index: int, size: int) -> list[float]:
    return [float(i == index) for i in range(size)]


def _first_best(probabilities: Sequence[float]) -> int:
    return max(range(len(probabilities)), key=probabilities.__getitem__)
