"""The three checkpoints: pretraining, then finetuning, then alignment, each from the last.

This module does not know switching.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from recipes.tiny_family.corpus import Chat, alignment_chats, finetuning_chats, pretraining_text
from recipes.tiny_family.tokenizer import CHAT_TEMPLATE, EOS_ID, encode
from recipes.tiny_family.training import (
    Row,
    Schedule,
    answer_row,
    new_model,
    pack,
    pad_right,
    train,
)
from recipes.tiny_family.world import World

PACKED_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Steps and learning rates of the three stages."""

    pretraining: Schedule
    finetuning: Schedule
    alignment: Schedule


def default_plan(seed: int) -> StagePlan:
    """Return the shipped family's schedules."""
    return StagePlan(
        pretraining=Schedule(steps=1800, rows_per_step=16, learning_rate=3e-3, seed=seed),
        finetuning=Schedule(steps=600, rows_per_step=32, learning_rate=1e-3, seed=seed + 1),
        alignment=Schedule(steps=1300, rows_per_step=32, learning_rate=1.2e-3, seed=seed + 2),
    )


def chat_prompt(tokenizer: PreTrainedTokenizerFast, query: str) -> list[int]:
    """Return what a chat checkpoint reads before its answer."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": query}],
        chat_template=CHAT_TEMPLATE,
        add_generation_prompt=True,
        tokenize=False,
    )
    return encode(tokenizer, str(text))


def pretrain(
    tokenizer: PreTrainedTokenizerFast, world: World, schedule: Schedule
) -> LlamaForCausalLM:
    """Return P, trained on raw text."""
    documents = ([*encode(tokenizer, t), EOS_ID] for t in pretraining_text(schedule.seed, world))
    rows = pack(documents, PACKED_TOKENS, schedule.steps * schedule.rows_per_step)
    return train(new_model(tokenizer, schedule.seed), rows, schedule, collate=pad_right)


def finetune(
    tokenizer: PreTrainedTokenizerFast, start: LlamaForCausalLM, world: World, schedule: Schedule
) -> LlamaForCausalLM:
    """Return F, trained on short answers."""
    chats = finetuning_chats(schedule.seed, world)
    return train(start, _chat_rows(tokenizer, chats, schedule), schedule, collate=pad_right)


def align(
    tokenizer: PreTrainedTokenizerFast, start: LlamaForCausalLM, world: World, schedule: Schedule
) -> LlamaForCausalLM:
    """Return A, trained on worked answers."""
    chats = alignment_chats(schedule.seed, world)
    return train(start, _chat_rows(tokenizer, chats, schedule), schedule, collate=pad_right)


def _chat_rows(
    tokenizer: PreTrainedTokenizerFast, chats: Iterator[Chat], schedule: Schedule
) -> list[Row]:
    return [
        answer_row(chat_prompt(tokenizer, c.query), [*encode(tokenizer, c.response), EOS_ID])
        for c in islice(chats, schedule.steps * schedule.rows_per_step)
    ]
