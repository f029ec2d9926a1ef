"""What the training graph asks of a kind of switcher, and the LM switcher's answers.

Knows nothing of the graph, of files or of how figures are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoConfig

from langgraph_switch.config import ModelRef, SwitcherSpec
from langgraph_switch.engines.models import load_error, load_tokenizer
from langgraph_switch.engines.pool import ModelPool
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.sft import Finetuned, SftRow, SftSettings, check_rows, finetune
from langgraph_switch.offline.switcher_artifact import switcher_spec
from langgraph_switch.offline.training_rows import (
    RolloutSource,
    RowEncoder,
    RowSettings,
    RowSplit,
    split_rows,
)
from langgraph_switch.switchers.base import Switcher
from langgraph_switch.switchers.lm import LMSwitcher

OnStep = Callable[[int, int, float], None]
"""Told (step, total steps, loss)."""


class Learner(Protocol):
    """One kind of switcher: how it reads rows, learns, and is served."""

    @property
    def base(self) -> ModelRef:
        """The model that is trained, or whose hidden state is read."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """How it is trained, as plain JSON types: part of what makes the run this run."""
        ...

    @property
    def split(self) -> RowSplit[Any]:
        """The rows, read as this switcher reads them."""
        ...

    def check(self) -> None:
        """Refuse rows that cannot be trained on.

        Raises:
            ConfigError: There are too few, or one is too long.
        """
        ...

    def train(self, work: Path, *, about: dict[str, Any], on_step: OnStep) -> Finetuned:
        """Train in a work folder, or go on there."""
        ...

    def served(self, done: Finetuned) -> Switcher:
        """Return the trained switcher as it will be served."""
        ...

    def spec(self, done: Finetuned) -> SwitcherSpec:
        """Return how it is named in a `switch.json` beside its weights."""
        ...


class LMLearner:
    """Trains a causal LM, of the candidates' family or of any other."""

    def __init__(
        self, source: RolloutSource, base: str | None, rows: RowSettings, settings: SftSettings
    ) -> None:
        """Start from a model.

        Args:
            source: The rollouts.
            base: A candidate's name (the anchor by default), a path or a repo.
            rows: Which rows are learned from.
            settings: How weights are trained.
        """
        self._source = source
        self._named = base
        self._rows = rows
        self._settings = settings

    @property
    def settings(self) -> dict[str, Any]:
        """How it is trained."""
        return self._settings.model_dump(mode="json", exclude={"device"})

    @cached_property
    def base(self) -> ModelRef:
        """Where the weights start.

        Raises:
            ConfigError: It is an adapter.
        """
        if self._candidate is None:
            folder = Path(str(self._named))
            return ModelRef(model=str(folder.resolve() if folder.is_dir() else self._named))
        spec = self._source.config.candidate(self._candidate)
        if spec.adapter is not None:
            raise ConfigError(
                f"Candidate {spec.name!r} is an adapter on {spec.model!r}; a switcher starts from "
                "weights of their own.",
                hint="name another candidate as base, or the path or repo of a whole model",
            )
        ref = ModelRef.model_validate(spec.model_dump(include=set(ModelRef.model_fields)))
        return ref.model_copy(update={"model": self._source.config.resolve_model(ref.model)})

    @cached_property
    def split(self) -> RowSplit[SftRow]:
        """The rows as prompts in the model's own tokens."""
        encoder = RowEncoder(
            load_tokenizer(self.base.model, revision=self.base.revision),
            self._source.config.names,
            self._rows,
            temperature=self._source.soft_label_temperature,
        )
        most = min(self._settings.max_length, _context_tokens(self.base))
        return split_rows(self._source, self._rows, encoder, max_tokens=most)

    def check(self) -> None:
        """Refuse fewer rows than one step needs."""
        check_rows(self.split.training, self._settings)

    def train(self, work: Path, *, about: dict[str, Any], on_step: OnStep) -> Finetuned:
        """Finetune the base; goes on from the last checkpoint of the same run."""
        return finetune(
            self.split.training,
            self.base,
            work=work,
            settings=self._settings,
            about=about,
            on_step=on_step,
        )

    def served(self, done: Finetuned) -> LMSwitcher:
        """Return the trained model as a switcher."""
        weights = str(done.folder)
        if done.method == "lora":
            ref = self.base.model_copy(update={"adapter": weights})
        else:
            ref = ModelRef(model=weights, device=self._settings.device)
        config = self._source.config
        return LMSwitcher(
            ModelPool(kv_cache_bytes=config.limits.kv_cache_bytes).engine(ref, name="switcher"),
            config.names,
            prompt=self._rows.prompt,
            sampling=config.sampling,
            segment_tokens=config.segment.max_tokens,
        )

    def spec(self, done: Finetuned) -> SwitcherSpec:
        """Return how the model or adapter is named."""
        return switcher_spec(
            self._source.config,
            method="lora" if done.method == "lora" else "full",
            base=self.base,
            base_candidate=self._candidate,
            prompt=self._rows.prompt,
        )

    @property
    def _candidate(self) -> str | None:
        """The candidate whose weights are the start, if it is one."""
        name = self._named or self._source.config.anchor_name
        return name if name in self._source.config.names else None


def _context_tokens(base: ModelRef) -> int:
    """Return how many tokens a model's context holds, without loading its weights."""
    try:
        config = AutoConfig.from_pretrained(
            base.model, revision=base.revision or "main", trust_remote_code=False
        )
    except Exception as err:
        raise load_error(base.model, err) from err
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31)
