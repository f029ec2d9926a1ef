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

# Enough for most rows: a full sort of the vocabulary is the exception.
_FIRST_LOOK = 128


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

    Only as many options are sorted as the row that needs most of them.
    """  # probabilities: [B, V], top_p and top_k: [B, 1], uniforms: [B] -> [B]
    vocab_size = probabilities.shape[-1]
    look = min(_FIRST_LOOK, vocab_size)
    sorted_probabilities, order = probabilities.topk(look, dim=-1)
    mass = sorted_probabilities.cumsum(dim=-1)
    is_enough = (mass[:, -1:] >= top_p) | (top_k <= look)
    if look < vocab_size and not bool(is_enough.all()):
        sorted_probabilities, order = probabilities.sort(dim=-1, descending=True)
        mass = sorted_probabilities.cumsum(dim=-1)
    ranks = torch.arange(mass.shape[-1], device=mass.device)
    is_kept = (mass - sorted_probabilities < top_p) & (ranks < top_k)
    num_kept = is_kept.sum(dim=-1, keepdim=True)
    kept_mass = mass.gather(-1, num_kept - 1)
    # The last kept option takes whatever rounding leaves over.
    rank = (mass <= uniforms.unsqueeze(1) * kept_mass).sum(dim=-1, keepdim=True)
    return order.gather(-1, torch.minimum(rank, num_kept - 1)).squeeze(1)
