"""What the training graph asks of a head: whose hidden state, which rows, what is served.

Knows nothing of the graph, or of how a head is fitted.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from langgraph_switch.assembly import Assembly
from langgraph_switch.candidates import Candidate
from langgraph_switch.config import GREEDY, HeadSwitcherSpec, ModelRef
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.head_settings import HeadSettings
from langgraph_switch.offline.head_training import HeadRow, train_head
from langgraph_switch.offline.learner import OnStep
from langgraph_switch.offline.sft import Finetuned
from langgraph_switch.offline.switcher_artifact import head_spec
from langgraph_switch.offline.training_rows import (
    RolloutSource,
    RowSettings,
    RowSplit,
    prefix_trace,
    split_rows,
    target_probabilities,
)
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.head import BoundaryReader, HeadSwitcher
from langgraph_switch.switchers.head_model import HeadConfig, SwitcherHead, speaker_features


class HeadLearner:
    """Trains a head on a candidate's hidden state; the candidate stays as it is."""

    def __init__(
        self, source: RolloutSource, base: str | None, rows: RowSettings, settings: HeadSettings
    ) -> None:
        """Put a head on a candidate.

        Args:
            source: The rollouts.
            base: The candidate's name; the anchor by default.
            rows: Which rows are learned from.
            settings: How the head is trained.

        Raises:
            ConfigError: `base` is no candidate.
        """
        config = source.config
        name = base or config.anchor_name
        if name not in config.names:
            raise ConfigError(
                f"A head reads the hidden state of a candidate; {name!r} is none.",
                hint=f"let --base be one of {', '.join(config.names)} (default: the anchor), or "
                "leave --head out to train a model of its own",
            )
        self._source = source
        self._spec = config.candidate(name)
        self._rows = rows
        self._settings = settings

    @property
    def settings(self) -> dict[str, Any]:
        """How it is trained."""
        return self._settings.model_dump(mode="json")

    @property
    def base(self) -> ModelRef:
        """The candidate's checkpoint."""
        fields = self._spec.model_dump(include=set(ModelRef.model_fields))
        ref = ModelRef.model_validate(fields)
        return ref.model_copy(update={"model": self._source.config.resolve_model(ref.model)})

    @cached_property
    def split(self) -> RowSplit[HeadRow]:
        """The rows as what the candidate reads."""
        encoder = _HeadRowEncoder(self._reader, self._source, self._rows)
        most = self._candidate.engine.max_context_tokens
        return split_rows(self._source, self._rows, encoder, max_tokens=most)

    def check(self) -> None:
        """Refuse to learn from nothing.

        Raises:
            ConfigError: No row is left to train on.
        """
        if not self.split.training:
            raise ConfigError(
                "There are no rows to train on.",
                hint="collect more rollouts, or learn from ties too (--keep-ties, --soft-labels)",
            )

    def train(self, work: Path, *, about: dict[str, Any], on_step: OnStep) -> Finetuned:
        """Collect hidden states and fit the head; collected ones are not computed again."""
        config = HeadConfig(
            kind=self._settings.kind,
            hidden_size=self._reader.hidden_size,
            candidates=self._source.config.names,
            reads=self._spec.name,
            model=self._spec.model,
            revision=self._spec.revision,
            hidden_units=self._settings.hidden_units if self._settings.kind == "mlp" else None,
            sees_speakers=self._settings.sees_speakers,
        )
        return train_head(
            self.split.training,
            config,
            self._reader.states,
            work=work,
            settings=self._settings,
            about=about,
            on_step=on_step,
        )

    def served(self, done: Finetuned) -> HeadSwitcher:
        """Return the head on the candidate."""
        config = self._source.config
        head = SwitcherHead.load(str(done.folder))
        return HeadSwitcher(self._candidate, head, config.names, sampling=GREEDY)

    def spec(self, done: Finetuned) -> HeadSwitcherSpec:
        """Return how the head is named."""
        del done
        return head_spec(self._source.config, candidate=self._spec.name)

    @cached_property
    def _candidate(self) -> Candidate:
        config = self._source.config
        return Candidate(self._spec, Assembly(config, {}).candidate_engine(self._spec), config)

    @cached_property
    def _reader(self) -> BoundaryReader:
        return BoundaryReader(self._candidate)


class _HeadRowEncoder:
    """Turns rollout rows into what the candidate reads and what the head is told beside it."""

    def __init__(
        self, reader: BoundaryReader, source: RolloutSource, settings: RowSettings
    ) -> None:
        self._reader = reader
        self._names = source.config.names
        self._is_soft = settings.soft_labels
        self._temperature = settings.soft_label_temperature or source.soft_label_temperature

    def encode(self, row: dict[str, Any]) -> HeadRow:
        """Return a row's prefix in the candidate's tokens, with its target."""
        trace = prefix_trace(row)
        return HeadRow(
            input_ids=list(self._reader.request(Turn(trace, "")).prefix),
            query_id=row["query_id"],
            speakers=speaker_features(trace, self._names),
            label_probabilities=target_probabilities(
                row, is_soft=self._is_soft, temperature=self._temperature
            ),
        )
