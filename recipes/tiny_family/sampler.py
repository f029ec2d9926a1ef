"""A small batched greedy sampler: the same prefix is never continued twice.

It exists because rollouts ask for the same few continuations again and again. This module does
not know traces or switching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, LlamaForCausalLM

from recipes.tiny_family.tokenizer import EOS_ID, PAD_ID

_BATCH_ROWS = 96


@dataclass(frozen=True, slots=True)
class Written:
    """New tokens, without the EOS that may have ended them."""

    token_ids: tuple[int, ...]
    hit_eos: bool


@dataclass(frozen=True)
class GreedyModel:
    """One model that continues token prefixes with its most probable tokens."""

    model: LlamaForCausalLM
    may_stop: bool = True
    """Whether its EOS may be written at all; else it is masked."""
    _memory: dict[tuple[tuple[int, ...], int], Written] = field(default_factory=dict)

    def write(self, prefixes: Sequence[tuple[int, ...]], max_new_tokens: int) -> list[Written]:
        """Return one continuation per prefix."""
        wanted = {p for p in prefixes if (p, max_new_tokens) not in self._memory}
        todo = sorted(wanted, key=lambda p: (len(p), p))
        for start in range(0, len(todo), _BATCH_ROWS):
            batch = todo[start : start + _BATCH_ROWS]
            for prefix, written in zip(batch, self._write(batch, max_new_tokens), strict=True):
                self._memory[prefix, max_new_tokens] = written
        return [self._memory[prefix, max_new_tokens] for prefix in prefixes]

    @torch.inference_mode()
    def _write(self, prefixes: list[tuple[int, ...]], max_new_tokens: int) -> list[Written]:
        ids, mask = left_pad(prefixes)
        new: list[list[int]] = [[] for _ in prefixes]
        hit_eos = [False] * len(prefixes)
        cache = DynamicCache(config=self.model.config)
        for _ in range(max_new_tokens):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                logits_to_keep=1,
            ).logits[:, -1]
            if not self.may_stop:
                logits[:, EOS_ID] = -torch.inf
            ids = logits.argmax(-1, keepdim=True)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=-1)
            for row, token in enumerate(ids[:, 0].tolist()):
                hit_eos[row] |= token == EOS_ID
                if not hit_eos[row]:
                    new[row].append(token)
            if all(hit_eos):
                break
        return [Written(tuple(t), e) for t, e in zip(new, hit_eos, strict=True)]


@torch.inference_mode()
def label_logits(
    model: LlamaForCausalLM, prefixes: Sequence[Sequence[int]], labels: Sequence[int]
) -> torch.Tensor:
    """Return the logits of some tokens right after each prefix, `[prefixes, labels]`."""
    order = sorted(range(len(prefixes)), key=lambda i: len(prefixes[i]))
    found = torch.empty(len(prefixes), len(labels))
    for start in range(0, len(order), _BATCH_ROWS):
        rows = order[start : start + _BATCH_ROWS]
        ids, mask = left_pad([prefixes[i] for i in rows])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1
        ).logits[:, -1]
        found[rows] = logits[:, list(labels)].float()
    return found


def left_pad(prefixes: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, `[prefixes, longest]`."""
    width = max(len(p) for p in prefixes)
    ids = torch.tensor([[PAD_ID] * (width - len(p)) + list(p) for p in prefixes])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prefixes])
    return ids, mask
