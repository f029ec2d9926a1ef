from __future__ import annotations

import math
import random

import pytest

from langgraph_switch.offline.recovery import recovered_share
from langgraph_switch.offline.statistics import mean_interval, paired_difference


def coins(number: int, probability: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)  # noqa: S311
    return [float(rng.random() < probability) for _ in range(number)]


def test_an_interval_holds_the_mean_and_is_as_wide_as_theory_says() -> None:
    values = coins(400, 0.5)
    found = mean_interval(values)
    assert found.n == 400
    assert found.mean == pytest.approx(sum(values) / 400)
    assert found.low < found.mean < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = coins(50, 0.3)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    other = mean_interval([i / 50 for i in range(50)], seed=4)
    assert other != mean_interval([i / 50 for i in range(50)], seed=3)


def test_rows_that_stand_or_fall_together_tell_less() -> None:
    values = [value for value in coins(40, 0.5) for _ in range(10)]
    clusters = [str(i // 10) for i in range(400)]
    alone, together = mean_interval(values), mean_interval(values, clusters)
    assert together.mean == alone.mean
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.15)


def test_nothing_has_no_mean() -> None:
    found = mean_interval([])
    assert found.n == 0
    assert math.isnan(found.mean)


def test_equal_rows_differ_by_nothing() -> None:
    values = coins(60, 0.5)
    found = paired_difference(values, values)
    assert (found.mean, found.low, found.high, found.p_value, found.n) == (0, 0, 0, 1, 60)


def test_a_real_difference_is_found_and_noise_is_not() -> None:
    base = coins(300, 0.3, seed=1)
    better = [max(one, extra) for one, extra in zip(base, coins(300, 0.3, seed=2), strict=True)]
    found = paired_difference(better, base)
    assert found.low > 0
    assert found.p_value < 0.01
    noise = paired_difference(coins(300, 0.3, seed=3), coins(300, 0.3, seed=4))
    assert noise.low < 0 < noise.high
    assert noise.p_value > 0.05


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    found = [
        paired_difference(coins(40, 0.5, 2 * i), coins(40, 0.5, 2 * i + 1), resamples=200).p_value
        for i in range(120)
    ]
    small = sum(p <= 0.1 for p in found) / len(found)
    assert small <= 0.2


def test_pairs_with_an_unknown_score_are_left_out_and_counted() -> None:
    found = paired_difference([1.0, None, 1.0, 0.0], [0.0, 1.0, None, 0.0])
    assert (found.n, found.num_left_out, found.mean) == (2, 2, 0.5)
    nothing = paired_difference([None], [1.0])
    assert nothing.n == 0
    assert math.isnan(nothing.p_value)


def test_the_recovered_share_is_that_of_the_gain() -> None:
    before, switched, after = [0.0] * 10, [1.0] * 10, [1.0] * 6 + [0.0] * 4
    found = recovered_share(before, switched, after, [str(i) for i in range(10)])
    assert found["share"] == pytest.approx(0.6)
    assert found["low"] < 0.6 < found["high"]
    none = recovered_share(switched, before, after, [str(i) for i in range(10)])
    assert none == {"share": None, "low": None, "high": None}
