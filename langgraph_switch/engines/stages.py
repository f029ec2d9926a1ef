"""Catching up in stages: rows that lack little do not sit through passes of those that lack much.

Computing padding costs as much as computing tokens, so a batch of ragged rows is cut into passes.
Knows nothing of tensors or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass of the first `num_rows` rows of a batch."""

    num_rows: int
    num_before: int
    """Columns that are still to come before the pass, counted from the prefixes' common end."""
    num_left: int
    """Columns that are still to come after it."""


def plan_stages(num_lacking: Sequence[int], *, pass_tokens: int) -> list[Stage]:
    """Return the cheapest stages in which every row computes what it lacks.

    Args:
        num_lacking: Tokens that each row has to compute, at least one; a row that lacks more
            should come before one that lacks less.
        pass_tokens: What one more pass costs, in tokens of one row.
    """
    # Columns are counted from the end: a row takes part in every stage that begins before its own
    # first column. cheapest[n]: cost of all columns up to n from the end, and the last cut.
    cuts = [0, *sorted(set(num_lacking))]
    cheapest: dict[int, tuple[int, int]] = {0: (0, 0)}
    rows_above = {cut: _num_rows_above(num_lacking, cut) for cut in cuts[:-1]}
    for index, before in enumerate(cuts[1:], start=1):
        cheapest[before] = min(
            (cheapest[left][0] + pass_tokens + (before - left) * rows_above[left], left)
            for left in cuts[:index]
        )
    stages = []
    before = cuts[-1]
    while before:
        left = cheapest[before][1]
        stages.append(Stage(rows_above[left], before, left))
        before = left
    return stages


def _num_rows_above(num_lacking: Sequence[int], cut: int) -> int:
    """Return how many rows, counted from the first, include all that lack more than `cut`."""
    return 1 + max(index for index, number in enumerate(num_lacking) if number > cut)
