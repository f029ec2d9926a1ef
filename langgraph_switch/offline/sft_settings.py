"""How weights are finetuned; frozen, and part of what makes a run this run.

Knows nothing of rows, models or TRL.
"""

from __future__ import annotations

import math
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Method: TypeAlias = Literal["full", "lora"]

FULL_BELOW_PARAMETERS = 50_000_000
"""`auto` trains all weights of a model with fewer parameters than this, and LoRA above."""

_LEARNING_RATE: dict[Method, float] = {"full": 1e-3, "lora": 1e-5}
_EPOCHS, _MOST_EPOCHS, _FULL_STEPS = 5, 20, 200
_MICRO_BATCH_SMALL, _MICRO_BATCH_LARGE = 32, 4


class SftSettings(BaseModel):
    """How weights are finetuned; the defaults are the paper's follow-up's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["auto", "lora", "full"] = "auto"
    """`auto`: all weights of a model under 50 million parameters, LoRA above."""
    lora_r: int = Field(default=64, ge=1)
    lora_alpha: int = Field(default=16, ge=1)
    lora_dropout: float = Field(default=0.1, ge=0, lt=1)
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear layers that get an adapter."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak of the cosine; by default 1e-5 for LoRA, 1e-3 for all weights of a small model."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps on which the learning rate rises."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the rows; by default 5. All weights of a small model need some 200 steps to
    learn anything, so few rows are passed over up to 20 times; more only learns their noise."""
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimizer step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows per forward pass, a divisor of `batch_size`; changes memory and time. By default at
    most 32 for a model under 50 million parameters and 4 above."""
    max_length: int = Field(default=4096, ge=2)
    """Most tokens of a row."""
    save_steps: int = Field(default=50, ge=1)
    """A crash loses at most so many steps."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda`, `mps`."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError("micro_batch_size must divide batch_size")
        return self

    def rate(self, method: Method) -> float:
        """Return the learning rate of a method."""
        return self.learning_rate or _LEARNING_RATE[method]

    def num_epochs(self, method: Method, num_rows: int) -> int:
        """Return the passes over so many rows."""
        if self.epochs is not None or method == "lora":
            return self.epochs or _EPOCHS
        enough = math.ceil(_FULL_STEPS * self.batch_size / max(1, num_rows))
        return max(_EPOCHS, min(_MOST_EPOCHS, enough))

    def micro_batch(self, num_parameters: int) -> int:
        """Return the rows of one forward pass."""
        if self.micro_batch_size is not None:
            return self.micro_batch_size
        is_small = num_parameters < FULL_BELOW_PARAMETERS
        most = _MICRO_BATCH_SMALL if is_small else _MICRO_BATCH_LARGE
        return max(n for n in range(1, most + 1) if self.batch_size % n == 0)

    def choose_method(self, num_parameters: int) -> tuple[Method, str]:
        """Return the method for a model of that size, and why it is that one."""
        if self.method != "auto":
            return self.method, "as asked"
        size, limit = f"{num_parameters:,} parameters", f"{FULL_BELOW_PARAMETERS:,}"
        if num_parameters < FULL_BELOW_PARAMETERS:
            return "full", f"all weights: {size} are fewer than {limit}"
        return "lora", f"LoRA: {size} are {limit} or more"
