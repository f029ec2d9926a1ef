"""From logits to token ids: greedy, temperature, top-k, top-p, each row with its own seed.

A row's draws depend on its seed alone, so a trace samples the same tokens whatever batch it is
in. Knows nothing of models or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langgraph_switch.config import Sampling

# Enough for most rows: a full sort of a large vocabulary is the exception.
_FIRST_LOOK = 128
_SMALL_VOCABULARY = 2**15  # A CPU sorts so few as fast as it takes a first look.


@dataclass(frozen=True, slots=True)
class RowSampler:
    """The settings and draws of a batch of rows, prepared once per call."""

    greedy: bool
    temperature: Tensor  # [B, 1]
    top_p: Tensor  # [B, 1]
    top_k: Tensor  # [B, 1], the vocabulary size where there is no limit
    uniforms: Tensor  # [B, steps]

    @classmethod
    def prepare(
        cls,
        samplings: Sequence[Sampling],
        seeds: Sequence[int],
        *,
        num_steps: int,
        device: torch.device,
    ) -> RowSampler:
        """Draw every row's random numbers for `num_steps` tokens."""
        greedy = all(sampling.is_greedy for sampling in samplings)
        uniforms = torch.zeros(len(seeds), 0 if greedy else num_steps)
        if not greedy:
            for row, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(seed)
                uniforms[row] = torch.rand(num_steps, generator=generator)

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, device=device).unsqueeze(1)

        return cls(
            greedy=greedy,
            temperature=column([s.temperature or 1.0 for s in samplings]),
            top_p=column([s.top_p for s in samplings]),
            top_k=column([1 if s.is_greedy else s.top_k or 2**31 for s in samplings]),
            uniforms=uniforms.to(device),
        )

    def select(self, rows: Tensor) -> RowSampler:
        """Return the sampler of some of the rows."""
        return RowSampler(
            greedy=self.greedy,
            temperature=self.temperature[rows],
            top_p=self.top_p[rows],
            top_k=self.top_k[rows],
            uniforms=self.uniforms[rows],
        )

    def sample(self, logits: Tensor, step: int) -> Tensor:
        """Return one token id per row."""  # logits: [B, V] -> [B]
        if self.greedy:
            return logits.argmax(dim=-1)
        probabilities = torch.softmax(logits.float() / self.temperature, dim=-1)
        return sample_sorted(probabilities, self.top_p, self.top_k, self.uniforms[:, step])


def sample_sorted(probabilities: Tensor, top_p: Tensor, top_k: Tensor, uniforms: Tensor) -> Tensor:
    """Draw from the most probable options only, by inverting their cumulated mass.

    A CPU sorts values alone (numpy does so ten times as fast as torch sorts them with their
    indices), then looks up which option has the rank that was drawn.
    """  # probabilities: [B, V], top_p and top_k: [B, 1], uniforms: [B] -> [B]
    values, order = _most_probable(probabilities, top_p, top_k)
    mass = values.cumsum(dim=-1)
    num_kept = torch.searchsorted(mass, top_p) + 1
    num_kept = torch.minimum(num_kept, top_k).clamp_(max=values.shape[-1])
    kept_mass = mass.gather(-1, num_kept - 1)
    # The last kept option takes whatever rounding leaves over.
    rank = torch.searchsorted(mass, uniforms.unsqueeze(1) * kept_mass, right=True)
    rank = torch.minimum(rank, num_kept - 1)
    if order is None:
        return _option_at(rank, values, probabilities)
    return order.gather(-1, rank).squeeze(1)


def _most_probable(
    probabilities: Tensor, top_p: Tensor, top_k: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return probabilities in descending order, enough of them, and the options they belong to."""
    vocab_size = probabilities.shape[-1]
    is_cpu = probabilities.device.type == "cpu"
    if not is_cpu or vocab_size > _SMALL_VOCABULARY:
        values, order = probabilities.topk(min(_FIRST_LOOK, vocab_size), dim=-1)
        is_enough = (values.sum(dim=-1, keepdim=True) >= top_p) | (top_k <= values.shape[-1])
        if bool(is_enough.all()):
            return values, order
    if not is_cpu:
        values, order = probabilities.sort(dim=-1, descending=True)
        return values, order
    negative = probabilities.neg().numpy()
    negative.sort(axis=-1)
    return torch.from_numpy(negative).neg_(), None


def _option_at(rank: Tensor, values: Tensor, probabilities: Tensor) -> Tensor:
    """Return the option at a rank; equals follow each other in the vocabulary's order."""
    # rank: [B, 1], values: [B, V] sorted, probabilities: [B, V] -> [B]
    value = values.gather(-1, rank)
    is_equal = probabilities == value
    found = is_equal.nonzero()
    if len(found) == len(rank):
        return found[:, 1]
    nth = rank - (probabilities > value).sum(dim=-1, keepdim=True)
    return (is_equal.cumsum(dim=-1) > nth).int().argmax(dim=-1)
