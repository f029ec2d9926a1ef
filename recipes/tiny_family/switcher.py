"""The switcher: the aligned checkpoint, taught by rollouts to name the next speaker.

Every state's target is the softmax of its utilities, so near ties teach little; states where all
candidates did equally well are left out. This module does not know how rollouts are made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutputWithPast

from recipes.tiny_family.rollout import Rollout
from recipes.tiny_family.sampler import left_pad
from recipes.tiny_family.switching import label_tokens, switcher_prompt
from recipes.tiny_family.training import Schedule, train

TARGET_TEMPERATURE = 0.15


class SwitcherRow(TypedDict):
    """A prompt and the probability that each candidate should be named."""

    input_ids: list[int]
    targets: list[float]


def train_switcher(
    tokenizer: PreTrainedTokenizerFast,
    aligned: LlamaForCausalLM,
    rollouts: Sequence[Rollout],
    schedule: Schedule,
) -> LlamaForCausalLM:
    """Return a switcher, finetuned from the aligned checkpoint."""
    rows = switcher_rows(tokenizer, rollouts)
    rng = random.Random(schedule.seed)
    needed = schedule.steps * schedule.rows_per_step
    order = [row for _ in range(needed // len(rows) + 1) for row in rng.sample(rows, len(rows))]
    return train(
        aligned,
        order[:needed],
        schedule,
        collate=_collate,
        loss=_label_loss(label_tokens(tokenizer)),
    )


def switcher_rows(
    tokenizer: PreTrainedTokenizerFast, rollouts: Sequence[Rollout]
) -> list[SwitcherRow]:
    """Return the rows of all states where the choice matters."""
    return [
        {
            "input_ids": switcher_prompt(tokenizer, rollout.state),
            "targets": soft_targets(rollout.utilities),
        }
        for rollout in rollouts
        if rollout.spread > 0
    ]


def soft_targets(utilities: Sequence[float | None]) -> list[float]:
    """Return the probabilities that a state teaches; 0 for a candidate that cannot write."""
    logits = [-torch.inf if u is None else u / TARGET_TEMPERATURE for u in utilities]
    return [float(p) for p in torch.tensor(logits).softmax(-1)]


def _collate(rows: Sequence[SwitcherRow]) -> dict[str, Any]:
    ids, mask = left_pad([row["input_ids"] for row in rows])
    targets = torch.tensor([row["targets"] for row in rows])
    # The loss needs the last position alone.
    return {"input_ids": ids, "attention_mask": mask, "labels": targets, "logits_to_keep": 1}


def _label_loss(labels: list[int]) -> Callable[..., torch.Tensor]:
    def loss(
        outputs: CausalLMOutputWithPast,
        targets: torch.Tensor,
        num_items_in_batch: int | None = None,  # noqa: ARG001
    ) -> torch.Tensor:
        assert outputs.logits is not None  # noqa: S101
        return functional.cross_entropy(outputs.logits[:, -1, labels], targets)

    return loss
