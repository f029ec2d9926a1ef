"""One training run of a small llama: rows of token ids in, a trained model out.

This module does not know what the rows mean.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, TypeVar

import torch
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from recipes.tiny_family.tokenizer import EOS_ID, MAX_CONTEXT_TOKENS, PAD_ID

IGNORED = -100
"""The label of a token that is read and not learned."""


class Row(TypedDict):
    """One sequence; both lists have the same length."""

    input_ids: list[int]
    labels: list[int]


RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast a stage learns; cosine decay after a warm-up of 5 %."""

    steps: int
    rows_per_step: int
    learning_rate: float
    seed: int


class RowDataset(Dataset[RowT]):
    """A list of rows."""

    def __init__(self, rows: Sequence[RowT]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __getitem__(self, index: int) -> RowT:
        """Return one row."""
        return self._rows[index]


def pad_right(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each `[rows, longest]`."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), width), PAD_ID)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[i, :length] = torch.tensor(row["input_ids"])
        labels[i, :length] = torch.tensor(row["labels"])
        mask[i, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return an untrained model of the family's shape."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    return LlamaForCausalLM(config)


def pack(documents: Iterable[list[int]], width: int, number: int) -> list[Row]:
    """Return `number` rows of whole documents, none longer than `width` tokens."""
    rows: list[Row] = []
    ids: list[int] = []
    for document in documents:
        if ids and len(ids) + len(document) > width:
            rows.append({"input_ids": ids, "labels": list(ids)})
            ids = []
            if len(rows) == number:
                break
        ids = ids + document[:width]
    return rows


def answer_row(prompt: list[int], answer: list[int]) -> Row:
    """Return a row that learns the answer alone."""
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def train(
    start: LlamaForCausalLM,
    rows: Sequence[RowT],
    schedule: Schedule,
    *,
    collate: Callable[[Sequence[RowT]], dict[str, Any]],
    loss: Callable[..., torch.Tensor] | None = None,
) -> LlamaForCausalLM:
    """Return a trained copy of a model; `rows` are seen in an order drawn from the seed.

    Without `loss`, the rows' labels are the tokens to learn.
    """
    model = copy.deepcopy(start)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=str(Path(folder)),
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.rows_per_step,
            learning_rate=schedule.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, schedule.steps // 20),
            weight_decay=0.1,
            adam_beta2=0.98,
            max_grad_norm=1.0,
            seed=schedule.seed,
            data_seed=schedule.seed,
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            logging_steps=max(1, schedule.steps // 10),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=RowDataset(rows),
            data_collator=collate,
            compute_loss_func=loss,
        )
        trainer.train()
    model.train(mode=False)
    return model
