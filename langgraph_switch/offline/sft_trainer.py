"""TRL's SFTTrainer as this package uses it: rows that are token ids already, and the label loss.

The label loss is the cross-entropy of a target distribution against the softmax over the labels'
logits right after the prompt: exactly what `LMSwitcher` serves. Needs the extra `train`.
Knows nothing of rollouts, work folders or where weights go.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from langgraph_switch.errors import EngineError, MissingExtraError

try:
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
except ImportError as err:
    raise MissingExtraError("Training", extra="train") from err

IGNORED = -100
"""The label of a token on which no loss falls."""

OnStep = Callable[[int, int, float], None]
"""Told (step, total steps, loss) after every optimizer step."""


class TokenTrainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
    """Next-token loss on pre-tokenised rows; reports to nobody, writes no card."""

    def _send_telemetry(self) -> None:
        """Call nobody: training works offline and is nobody else's business."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: a card states measured numbers, which are not known here."""


class LabelTrainer(TokenTrainer):
    """Loss over the candidates' labels alone, at the one position where they are read."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the mean cross-entropy per row of the whole (accumulated) batch."""
        rest = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        outputs, logits = label_logits(model, rest, inputs["labels"], inputs["label_ids"])
        loss = functional.cross_entropy(logits, inputs["label_probabilities"], reduction="sum")
        loss = loss / (len(logits) if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


def label_logits(
    model: torch.nn.Module, inputs: dict[str, Tensor], labels: Tensor, label_ids: Tensor
) -> tuple[Any, Tensor]:
    """Return the model's output and each row's logits of the candidates' labels."""
    # labels: [B, T], label_ids: [B, C] -> [B, C]. A label is read one position before itself.
    positions = (labels != IGNORED).int().argmax(dim=1) - 1
    kept, slots = torch.unique(positions, return_inverse=True)
    outputs = model(**inputs, use_cache=False, logits_to_keep=kept)
    rows = torch.arange(len(slots), device=slots.device)
    return outputs, outputs.logits[rows, slots].float().gather(1, label_ids)


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Lay rows side by side, the padding on the right, where nothing looks at it."""
    width = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filler: int) -> Tensor:
        values = [[*row[name], *[filler] * (width - len(row[name]))] for row in rows]
        return torch.tensor(values)

    masks = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    batch = {
        "input_ids": padded("input_ids", 0),
        "attention_mask": torch.tensor(masks),
        "labels": padded("labels", IGNORED),
    }
    if "label_ids" in rows[0]:
        batch["label_ids"] = torch.tensor([row["label_ids"] for row in rows])
        batch["label_probabilities"] = torch.tensor(
            [row["label_probabilities"] for row in rows], dtype=torch.float32
        )
    return batch


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    *,
    arguments: dict[str, Any],
    lora: LoraConfig | None,
    on_step: OnStep | None,
) -> SFTTrainer:
    """Return a trainer over rows; it owns model and tokenizer from here on.

    Args:
        model: The weights; they are changed in place.
        tokenizer: A tokenizer of nobody else's: TRL may change it.
        rows: Token ids, labels and, for the label loss, the labels' ids and probabilities.
        arguments: Fields of `SFTConfig`.
        lora: Train an adapter of this shape instead of the weights.
        on_step: Told of every step.
    """
    kind = LabelTrainer if "label_ids" in rows[0] else TokenTrainer
    with warnings.catch_warnings():
        # TRL and peft use names that the newest transformers has changed.
        warnings.simplefilter("ignore", FutureWarning)
        trainer = kind(
            model=model,
            args=SFTConfig(**arguments),
            data_collator=collate,
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[_Progress(on_step)],
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest trainer checkpoint that was written to its end."""
    found = [path for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_whole(checkpoint: Path) -> bool:
    # Its state is written last, so it is there only if everything else is.
    state = checkpoint / "trainer_state.json"
    return state.is_file() and state.read_text(encoding="utf-8").rstrip().endswith("}")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and remarks off the screen, and restore them."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if was_enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


class _Progress(TrainerCallback):
    """Tells of every step, and stops a training that has diverged."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Pass the step's loss on."""
        del args, control
        if logs is None or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise EngineError(
                f"The training diverged: the loss of step {state.global_step} is {loss}.",
                hint="lower learning_rate and start again in another folder",
            )
        if self._on_step is not None:
            self._on_step(state.global_step, state.max_steps, loss)
