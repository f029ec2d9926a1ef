"""A causal LM without its output layer: what it returns in place of logits are hidden states.

A `RowBatch` runs it like any model, so catching up, memory and masks are the same code.
Knows nothing of what hidden states are read for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from langgraph_switch.engines.batch import cache_argument


class HiddenOutput(NamedTuple):
    """The part of a causal LM's output that a `RowBatch` reads."""

    logits: Tensor
    """The last tokens' hidden states behind the final normalisation, [B, kept, D]."""


class HiddenStateModel:
    """Passes batches through a model's body alone; no logits over the vocabulary are computed."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._body: Any = model.base_model
        self._cache_argument = cache_argument(type(model.base_model).forward)
        self.config = model.config
        self.dtype = model.dtype
        self.device = model.device

    def forward(self, *, cache: Cache, logits_to_keep: int, **inputs: Any) -> HiddenOutput:
        """Return the hidden states of the last `logits_to_keep` tokens."""
        output = self._body(**inputs, **{self._cache_argument: cache})
        return HiddenOutput(output.last_hidden_state[:, -logits_to_keep:])

    __call__ = forward
