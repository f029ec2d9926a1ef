"""What a collection of rollouts is made with; frozen, hashed, and kept beside the rows.

Knows nothing of models or files.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from langgraph_switch._version import __version__
from langgraph_switch.config import SwitchConfig

Completer: TypeAlias = Literal["random", "anchored", "switcher"]


class RolloutSettings(BaseModel):
    """The paper's rollouts (section 3.2) and the choices it leaves open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completions: int = Field(default=8, ge=1)
    """Completions per branch (k); the paper used 32 rollouts per example."""
    completer: Completer = "random"
    """Who writes prefixes and completions: `random` (the paper), `anchored` or `switcher`."""
    epsilon: float = Field(default=0.3, ge=0, le=1)
    """How often `anchored` and `switcher` stray to a random candidate."""
    min_cut: float = Field(default=0.1, ge=0, le=1)
    max_cut: float = Field(default=0.9, ge=0, le=1)
    """A prefix is cut at a random share of its response's tokens between these two."""
    soft_label_temperature: float = Field(default=0.15, gt=0)
    """Temperature of the softmax over utilities that is stored beside the hard label."""
    early_stop: bool = False
    """Stop completing a branch that can no longer have the highest mean, scores being at most 1;
    the label stays what it would have been, the other means rest on fewer completions."""
    chunk_queries: int = Field(default=16, ge=1)
    """Queries in flight: a crash loses at most these."""
    seed: int = Field(default=0, ge=0)


def describe_run(
    config: SwitchConfig, settings: RolloutSettings, *, task: dict[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a run: everything that decides what its rows are."""
    described = {
        "candidates": list(config.names),
        "config": decisive(config),
        "settings": settings.model_dump(mode="json"),
        "task": task,
    }
    return {
        "kind": "rollouts",
        "package_version": __version__,
        "config_hash": digest(described),
        **described,
    }


def decisive(config: SwitchConfig) -> dict[str, Any]:
    """Return all of a configuration that decides what is written, models by absolute path."""
    return config.with_absolute_models().model_dump(
        mode="json", exclude_none=True, exclude={"limits", "seed"}
    )


def digest(value: Any) -> str:
    """Return a short hash of plain JSON types."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
