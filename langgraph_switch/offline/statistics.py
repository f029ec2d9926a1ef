"""Means and paired differences with intervals that respect what stands or falls together.

Rows of one cluster (questions about one fact, say) are resampled whole. Deterministic by seed.
Knows nothing of responses or conditions.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int
    """Rows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences, its bootstrap interval, and a permutation p-value."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    """Pairs of which both scores are known."""
    num_left_out: int = 0
    """Pairs of which one is not."""


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of values and its percentile bootstrap interval; NaN without values."""
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    sums, counts = _by_cluster(values, clusters)
    means = _resampled_means(sums, counts, resamples, seed)
    low, high = _percentiles(means, level)
    return Interval(float(sums.sum() / counts.sum()), low, high, len(values))


def paired_difference(
    ours: Sequence[float | None],
    theirs: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Return how much better ours are than theirs, pair by pair.

    The p-value is two-sided, from flipping the signs of whole clusters' differences at random.
    Pairs with an unknown score are left out and counted.
    """
    names = range(len(ours)) if clusters is None else clusters
    known = [
        (a - b, name)
        for a, b, name in zip(ours, theirs, names, strict=True)
        if a is not None and b is not None
    ]
    num_left_out = len(ours) - len(known)
    if not known:
        nan = float("nan")
        return Difference(nan, nan, nan, nan, 0, num_left_out)
    sums, counts = _by_cluster([d for d, _ in known], [name for _, name in known])
    low, high = _percentiles(_resampled_means(sums, counts, resamples, seed), level)
    observed = abs(sums.sum())
    signs = np.random.default_rng(seed + 1).choice((-1.0, 1.0), (resamples, len(sums)))
    as_large = np.abs(signs @ sums) >= observed - 1e-9
    p_value = (1 + int(as_large.sum())) / (1 + resamples)
    mean = float(sums.sum() / counts.sum())
    return Difference(mean, low, high, p_value, len(known), num_left_out)


def _by_cluster(
    values: Sequence[float], clusters: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of values of every cluster."""
    names = range(len(values)) if clusters is None else clusters
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    index = np.array([order[name] for name in names])
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64))
    return sums.astype(np.float64), np.bincount(index).astype(np.float64)


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    means: NDArray[np.float64] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _percentiles(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
