"""Shares with 95 % intervals that respect facts shared by several questions.

This module does not know models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_RESAMPLES = 2000
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers in percent, with its interval."""

    percent: float
    low: float
    high: float
    number: int

    def to_json(self) -> dict[str, float]:
        """Return plain JSON types."""
        return asdict(self)


def share(right: Sequence[bool], clusters: Sequence[str], seed: int = 0) -> Share:
    """Return the share of true values and its bootstrap interval.

    Whole clusters are resampled: questions about one fact stand or fall together.
    """
    groups: dict[str, list[bool]] = {}
    for is_right, cluster in zip(right, clusters, strict=True):
        groups.setdefault(cluster, []).append(is_right)
    sums = [(sum(group), len(group)) for group in groups.values()]
    rng = random.Random(seed)
    means = []
    for _ in range(_RESAMPLES):
        drawn = rng.choices(sums, k=len(sums))
        means.append(100 * sum(s for s, _ in drawn) / sum(n for _, n in drawn))
    means.sort()
    low, high = means[int(_TAIL * _RESAMPLES)], means[int((1 - _TAIL) * _RESAMPLES) - 1]
    return Share(round(100 * sum(right) / len(right), 1), round(low, 1), round(high, 1), len(right))
