from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, random_model

from langgraph_switch.engines import batch as batch_module
from langgraph_switch.engines.batch import RowBatch
from langgraph_switch.engines.kv import KVRow
from langgraph_switch.engines.stages import plan_stages

LACKING = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def cost(num_lacking: Sequence[int], cuts: Sequence[int], pass_tokens: int) -> int:
    """What stages with these cuts cost where the rows that lack most come first."""
    bounds = [max(num_lacking), *sorted(cuts, reverse=True), 0]
    return sum(
        pass_tokens + (high - low) * sum(n > low for n in num_lacking)
        for high, low in pairwise(bounds)
    )


@given(LACKING, st.integers(0, 60))
def test_stages_compute_every_column_of_every_row_once(
    num_lacking: list[int], pass_tokens: int
) -> None:
    computed = [[] for _ in num_lacking]
    stages = plan_stages(num_lacking, pass_tokens=pass_tokens)
    for stage in stages:
        for row in range(stage.num_rows):
            own = min(stage.num_before, num_lacking[row])
            computed[row] += range(own, stage.num_left, -1)
    assert computed == [list(range(n, 0, -1)) for n in num_lacking]
    assert stages[-1].num_left == 0
    assert stages[-1].num_rows == len(num_lacking)


@given(LACKING, st.integers(0, 60))
def test_no_other_cuts_are_cheaper(num_lacking: list[int], pass_tokens: int) -> None:
    ordered = sorted(num_lacking, reverse=True)
    stages = plan_stages(ordered, pass_tokens=pass_tokens)
    planned = cost(ordered, [s.num_left for s in stages[:-1]], pass_tokens)
    levels = sorted(set(ordered))[:-1]
    every = [c for n in range(len(levels) + 1) for c in combinations(levels, n)]
    assert planned == min(cost(ordered, cuts, pass_tokens) for cuts in every)


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("order", [[3, 2, 1, 0], [0, 1, 2, 3]])
def test_stages_and_one_pass_give_the_same_logits(
    kind: str, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(kind)
    prefixes = [[5 + i * 7 % 50 for i in range(n)] for n in (9, 30, 41, 70)]
    prefixes = [prefixes[i] for i in order]

    def logits(pass_tokens: int) -> torch.Tensor:
        monkeypatch.setitem(batch_module._PASS_TOKENS, "cpu", pass_tokens)
        rows = [KVRow() for _ in prefixes]
        with torch.inference_mode():
            batch = RowBatch(model, rows, [p[:5] for p in prefixes], num_new_columns=0)
            batch.prefill()
            batch.store([()] * len(rows))
            batch = RowBatch(model, rows, prefixes, num_new_columns=1)
            return batch.prefill()[:, -1]

    torch.testing.assert_close(logits(0), logits(10_000), atol=1e-5, rtol=1e-5)
