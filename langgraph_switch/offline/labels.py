"""From the scores of completions to a label: means, standard errors, margin, ties, soft labels.

Knows nothing of how completions were written or scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_EARLY_STOP_ROUNDS = 4
TIE = 1e-9
"""Means no further apart than this are equal."""


@dataclass(frozen=True, slots=True)
class Utilities:
    """How good it is to let each candidate write next (paper: `s_i`, `g = argmax s_i`)."""

    means: tuple[float, ...]
    """Mean score per candidate."""
    standard_errors: tuple[float, ...]
    label: int
    """The best candidate; the first of them in a tie."""
    is_tie: bool
    margin: float
    """The best mean less the second best."""
    soft_labels: tuple[float, ...]
    """Softmax of the means."""


def utilities(scores: Sequence[Sequence[float]], *, temperature: float) -> Utilities:
    """Summarise the scores of every candidate's completions; each has at least one."""
    means = tuple(math.fsum(row) / len(row) for row in scores)
    ranked = sorted(means, reverse=True)
    best = ranked[0]
    weights = [math.exp((mean - best) / temperature) for mean in means]
    return Utilities(
        means=means,
        standard_errors=tuple(_standard_error(row) for row in scores),
        label=means.index(best),
        is_tie=best - ranked[1] <= TIE,
        margin=best - ranked[1],
        soft_labels=tuple(weight / math.fsum(weights) for weight in weights),
    )


def early_stop_looks(completions: int) -> list[int]:
    """Return after how many completions of each branch early stopping looks at the scores."""
    rounds = min(_EARLY_STOP_ROUNDS, completions)
    return [completions * (number + 1) // rounds for number in range(rounds)]


def early_stopped(scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return what early stopping would have kept of branches that were all completed."""
    completions = max(map(len, scores))
    kept: list[list[float]] = [[] for _ in scores]
    for number, upto in enumerate(early_stop_looks(completions)):
        is_open = [
            number == 0 or can_still_win(kept, candidate, completions=completions)
            for candidate in range(len(scores))
        ]
        kept = [
            list(row[:upto]) if go_on else done
            for row, done, go_on in zip(scores, kept, is_open, strict=True)
        ]
    return kept


def can_still_win(scores: Sequence[Sequence[float]], candidate: int, *, completions: int) -> bool:
    """Return whether a candidate may still reach the highest mean, or tie with it.

    Scores lie in 0 ... 1: a candidate gets at most 1 for each completion it still lacks, and
    every other one gets at least 0.
    """
    own = math.fsum(scores[candidate]) + completions - len(scores[candidate])
    others = [math.fsum(row) for index, row in enumerate(scores) if index != candidate]
    return own >= max(others, default=0.0) - TIE


def _standard_error(scores: Sequence[float]) -> float:
    if len(scores) < 2:  # noqa: PLR2004
        return 0.0
    mean = math.fsum(scores) / len(scores)
    variance = math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
    return math.sqrt(variance / len(scores))
