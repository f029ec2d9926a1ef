from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_switch.offline.labels import early_stop_looks, early_stopped, utilities

SCORES = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=6, max_size=6),
    min_size=2,
    max_size=4,
)


def test_utilities_are_means_with_errors_margin_and_soft_labels() -> None:
    found = utilities([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]], temperature=0.5)
    assert found.means == (0.5, 1.0, 0.0)
    assert found.label == 1
    assert not found.is_tie
    assert found.margin == 0.5
    assert found.standard_errors == pytest.approx((math.sqrt(1 / 3 / 4), 0, 0))
    weights = [math.exp(m / 0.5) for m in (0.5, 1, 0)]
    assert found.soft_labels == pytest.approx([w / sum(weights) for w in weights])


def test_equal_best_means_are_a_tie_and_keep_the_first() -> None:
    found = utilities([[0.1, 0.2], [0.3, 0.0], [0.0, 0.0]], temperature=1)
    assert found.is_tie
    assert found.label == 0


@given(scores=SCORES)
def test_stopping_early_never_changes_a_label_or_makes_a_tie(scores: list[list[float]]) -> None:
    kept = early_stopped(scores)
    whole, stopped = utilities(scores, temperature=1), utilities(kept, temperature=1)
    assert all(few == all_of_it[: len(few)] for few, all_of_it in zip(kept, scores, strict=True))
    assert stopped.label == whole.label
    assert stopped.is_tie == whole.is_tie


def test_a_branch_that_cannot_catch_up_is_stopped_at_the_next_look() -> None:
    assert early_stop_looks(8) == [2, 4, 6, 8]
    assert early_stop_looks(2) == [1, 2]
    kept = early_stopped([[1.0] * 8, [0.0] * 8])
    assert [len(row) for row in kept] == [8, 6]
