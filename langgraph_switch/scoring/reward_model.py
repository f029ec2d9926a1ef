"""A reward model's opinion of the real dialogue: the question's messages, then the response.

Any sequence classifier of transformers with a chat template. Safetensors only, no foreign code.
torch is imported with this module; the weights are loaded with the first score.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from langgraph_switch.config import DType
from langgraph_switch.engines.load_errors import first_line, load_error
from langgraph_switch.engines.models import resolve_device
from langgraph_switch.errors import (
    ConfigError,
    ContextLengthError,
    EngineOutOfMemoryError,
    ModelLoadError,
)
from langgraph_switch.scoring.base import Answer, ScoreResult

DEFAULT_MODEL = "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"


@dataclass(frozen=True)
class RewardModel:
    """The classifier's logit for the dialogue; unbounded, larger is better.

    A dialogue that does not fit into the model's context marks its row; none is cut. A batch that
    does not fit into memory is halved.
    """

    model: str = DEFAULT_MODEL
    """A local folder or a Hugging Face repo; by default the one of the follow-up toolkit."""
    revision: str | None = None
    device: str = "auto"
    dtype: DType = "auto"
    batch_size: int = 8
    """Dialogues per forward pass; a model without a padding token takes those of equal length."""
    label: int | None = None
    """For classifiers with several labels: the one whose probability is the score."""
    name: ClassVar[str] = "reward_model"
    needs_references: ClassVar[bool] = False
    _loaded: list[_Classifier] = field(default_factory=list, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError("`batch_size` must be at least 1.", hint="pass batch_size=8")

    def __call__(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return a number per answer.

        Raises:
            ConfigError: There is no such device, or `label` does not fit the classifier.
            ModelLoadError: The model cannot be loaded, or has no chat template.
        """
        with self._lock:  # One forward pass at a time; loads once.
            if not self._loaded:
                self._loaded.append(_Classifier(self))
            return self._loaded[0].judge(answers)


class _Classifier:
    """The loaded model with its tokenizer."""

    def __init__(self, spec: RewardModel) -> None:
        self._spec = spec
        self._device = resolve_device(spec.device)
        self._tokenizer = self._load_tokenizer()
        self._module = self._load_module()
        config = self._module.config.get_text_config()
        self._pad_id: int | None = getattr(config, "pad_token_id", None)
        self._max_tokens: int | None = getattr(config, "max_position_embeddings", None)
        self._check_label(self._module.config.num_labels)

    def judge(self, answers: Sequence[Answer]) -> list[ScoreResult]:
        """Return one result per answer, in order."""
        results: dict[int, ScoreResult] = {}
        dialogues: dict[int, list[int]] = {}
        for index, answer in enumerate(answers):
            try:
                dialogues[index] = self._encode(answer)
            except Exception as err:  # noqa: BLE001 - a template may refuse a dialogue
                results[index] = ScoreResult.failed(err)
        for batch in self._batches(dialogues):
            for index, value in zip(
                batch, self._forward([dialogues[i] for i in batch]), strict=True
            ):
                results[index] = ScoreResult.of(value)
        return [results[index] for index in range(len(answers))]

    def _encode(self, answer: Answer) -> list[int]:
        messages = [{"role": one.role, "content": one.content} for one in answer.messages]
        messages.append({"role": "assistant", "content": answer.response})
        encoded: Any = self._tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True
        )
        ids: list[int] = list(encoded["input_ids"])
        if self._max_tokens is not None and len(ids) > self._max_tokens:
            raise ContextLengthError(
                self._spec.model,
                num_tokens=len(ids),
                max_tokens=self._max_tokens,
                hint="score shorter responses, or use a reward model with a longer context",
            )
        return ids

    def _batches(self, dialogues: dict[int, list[int]]) -> list[list[int]]:
        """Return rows that go through the model together, of similar length."""
        batches: list[list[int]] = []
        length = -1
        for index in sorted(dialogues, key=lambda one: len(dialogues[one])):
            fits = self._pad_id is not None or len(dialogues[index]) == length
            if not batches or not fits or len(batches[-1]) == self._spec.batch_size:
                batches.append([])
            batches[-1].append(index)
            length = len(dialogues[index])
        return batches

    def _forward(self, rows: list[list[int]]) -> list[float]:
        """Return one score per row of token ids."""
        try:
            return self._forward_at_once(rows)
        except torch.OutOfMemoryError as err:
            if len(rows) == 1:
                raise EngineOutOfMemoryError(
                    f"{self._device} has too little memory for a dialogue of {len(rows[0])} "
                    f"tokens in {self._spec.model!r}.",
                    hint="give the reward model another `device`, or a smaller `dtype`",
                ) from err
        half = len(rows) // 2
        return self._forward(rows[:half]) + self._forward(rows[half:])

    def _forward_at_once(self, rows: list[list[int]]) -> list[float]:
        longest = max(len(row) for row in rows)
        pad = 0 if self._pad_id is None else self._pad_id
        # ids, mask: [B, T], padded on the right: such models read their score at the last token
        # that is none of padding.
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            logits = self._module(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
            ).logits.float()  # [B, labels]
        if self._spec.label is not None:
            logits = logits.softmax(-1)
        values: list[float] = logits[:, self._spec.label or 0].tolist()
        return values

    def _check_label(self, num_labels: int) -> None:
        label = self._spec.label
        if label is None and num_labels != 1:
            raise ConfigError(
                f"{self._spec.model!r} has {num_labels} labels, not one score.",
                hint=f"pass label=0 ... {num_labels - 1}: its probability becomes the score",
            )
        if label is not None and (num_labels == 1 or not 0 <= label < num_labels):
            raise ConfigError(
                f"{self._spec.model!r} has {num_labels} label(s); there is no probability of "
                f"label {label}.",
                hint="leave `label` out" if num_labels == 1 else f"use 0 ... {num_labels - 1}",
            )

    def _load_tokenizer(self) -> Any:
        source = self._spec.model
        if source.startswith(("/", "./", "../", "~")) and not Path(source).is_dir():
            raise ModelLoadError(source, "there is no such folder.", hint="check the path")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                source, revision=self._spec.revision or "main", trust_remote_code=False
            )
        except Exception as err:
            raise load_error(source, err) from err
        if not tokenizer.chat_template:
            raise ModelLoadError(
                source,
                "its tokenizer has no chat template, so a dialogue cannot be put to it.",
                hint="use a reward model that was trained on dialogues",
            )
        return tokenizer

    def _load_module(self) -> Any:
        source, dtype = self._spec.model, self._spec.dtype
        try:
            module, report = AutoModelForSequenceClassification.from_pretrained(
                source,
                revision=self._spec.revision or "main",
                dtype="auto" if dtype == "auto" else getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as err:
            raise load_error(source, err) from err
        if missing := sorted(report["missing_keys"]):
            raise ModelLoadError(
                source,
                f"it has no weights for {missing[0]}: it is no trained classifier.",
                hint="name a reward model, not a language model",
            )
        try:
            module.eval().to(self._device)
        except RuntimeError as err:
            raise EngineOutOfMemoryError(
                f"{self._device} cannot hold the weights of {source!r}: {first_line(err)}",
                hint="give the reward model another `device`, or a smaller `dtype`",
            ) from err
        if dtype == "auto" and self._device.type == "cpu":
            module.float()
        return module
