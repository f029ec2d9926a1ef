"""A measured score as the Hub shows it beside a card: with its n and its 95 % interval."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult


def card_result(
    score: dict[str, Any],
    *,
    metric: str,
    data_set: str,
    metric_name: str | None = None,
    data_set_name: str | None = None,
    split: str | None = None,
) -> EvalResult:
    """Return an entry of a card's `model-index`.

    Args:
        score: `mean`, `n`, and `low` and `high` where there is an interval.
        metric: What is measured, by the name that the Hub groups by.
        data_set: The questions, by name.
        metric_name: The metric in words.
        data_set_name: The questions in words; by default their name.
        split: Which of them.
    """
    return EvalResult(
        task_type="text-generation",
        dataset_type=data_set,
        dataset_name=data_set_name or data_set,
        dataset_split=split,
        metric_type=metric,
        metric_name=metric_name,
        metric_value=score["mean"],
        metric_args={key: score[key] for key in ("n", "low", "high") if key in score},
    )
