"""How a head switcher is trained; frozen, and part of what makes a run this run.

Knows nothing of rows, models or torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from langgraph_switch.config import HeadKind


class HeadSettings(BaseModel):
    """How a head on a candidate's hidden state is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: HeadKind = "linear"
    hidden_units: int = Field(default=64, ge=1)
    """Of the one hidden layer of kind `mlp`."""
    sees_speakers: bool = True
    """Whether it is told who wrote what, and how much, beside the hidden state."""
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimizer step."""
    epochs: int = Field(default=300, ge=1)
    """Most passes over the rows."""
    patience: int = Field(default=20, ge=1)
    """Stop after so many passes without a lower loss on the dev share; the best pass is kept."""
    dev_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the training queries that decides when to stop. Rows that are held out to be
    measured on decide nothing."""
    seed: int = Field(default=0, ge=0, lt=2**32)
