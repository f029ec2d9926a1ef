from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langgraph_switch.config import Sampling
from langgraph_switch.engines import sampling as sampling_module
from langgraph_switch.engines.sampling import RowSampler, sample_sorted


def reference(probabilities: list[float], top_p: float, top_k: int, uniform: float) -> int:
    """Sort everything, keep what the rules keep, and walk along the cumulated mass."""
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    kept: list[int] = []
    for index in order[:top_k]:
        if sum(probabilities[i] for i in kept) >= top_p:
            break
        kept.append(index)
    threshold = uniform * sum(probabilities[i] for i in kept)
    mass = 0.0
    for index in kept:
        mass += probabilities[index]
        if threshold < mass:
            return index
    return kept[-1]


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.integers(1, 1000), min_size=2, max_size=40, unique=True),
    top_p=st.floats(0.01, 1.0),
    top_k=st.integers(1, 50),
    uniform=st.floats(0, 1, exclude_max=True),
    first_look=st.sampled_from([1, 3, 128]),
    small=st.sampled_from([0, 128]),
)
def test_draws_are_those_of_a_full_sort(
    weights: list[int], top_p: float, top_k: int, uniform: float, first_look: int, small: int
) -> None:
    probabilities = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_module, "_FIRST_LOOK", first_look)
        patch.setattr(sampling_module, "_SMALL_VOCABULARY", small)
        drawn = sample_sorted(
            probabilities.unsqueeze(0),
            torch.tensor([[top_p]], dtype=torch.float64),
            torch.tensor([[top_k]]),
            torch.tensor([uniform], dtype=torch.float64),
        ).item()
    expected = reference(probabilities.tolist(), top_p, top_k, uniform)
    if drawn != expected:  # Only where a rounding error decides.
        cumulated = probabilities.sort(descending=True).values.cumsum(0)
        gaps = (cumulated - top_p).abs().min(), (cumulated - uniform * cumulated).abs().min()
        assert min(gaps) < 1e-9


def test_options_of_equal_probability_keep_the_order_of_the_vocabulary() -> None:
    probabilities = torch.tensor([[0.125, 0.25, 0.125, 0.25, 0.125, 0.125]] * 3)
    drawn = [
        sample_sorted(
            probabilities,
            torch.full((3, 1), 0.9),
            torch.full((3, 1), 5),
            torch.tensor([uniform, 0.0, 0.999]),
        ).tolist()
        for uniform in (0.1, 0.4, 0.6, 0.8, 0.95)
    ]
    assert [row[0] for row in drawn] == [1, 3, 0, 2, 4]
    assert all(row[1:] == [1, 4] for row in drawn)


def test_frequencies_are_the_probabilities_of_the_kept_options() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).log_softmax(-1)
    sampling = Sampling(temperature=2.0, top_p=0.8)
    draws = 4000
    sampler = RowSampler.prepare(
        [sampling] * draws, list(range(draws)), num_steps=1, device=torch.device("cpu")
    )
    counts = sampler.sample(logits.expand(draws, -1).clone(), 0).bincount(minlength=4)
    expected = (logits[0] / 2).softmax(-1)
    expected[3] = 0  # The first three reach 0.8.
    expected = expected / expected.sum()
    torch.testing.assert_close(counts / draws, expected, atol=0.03, rtol=0)


def test_a_temperature_of_zero_and_a_top_k_of_one_are_greedy() -> None:
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    samplings = [Sampling(temperature=0), Sampling(top_k=1)] * 3 + [Sampling()] * 2
    sampler = RowSampler.prepare(samplings, list(range(8)), num_steps=1, device=torch.device("cpu"))
    drawn = sampler.sample(logits, 0)
    assert drawn[:6].tolist() == logits[:6].argmax(-1).tolist()


def test_selected_rows_keep_their_draws() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    sampler = RowSampler.prepare(
        [Sampling(temperature=3)] * 4, [5, 6, 7, 8], num_steps=3, device=torch.device("cpu")
    )
    rows = torch.tensor([3, 1])
    assert sampler.select(rows).sample(logits[rows], 2).tolist() == [
        sampler.sample(logits, 2)[row] for row in (3, 1)
    ]
