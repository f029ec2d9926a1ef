"""From rollouts to what a switcher is trained on and measured by.

A prompt is rendered by the same `SwitcherPrompt` that serves. Rows are held out by query, so that
no query is on both sides. Knows nothing of how rows are trained on.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from langgraph_switch.config import CandidateSpec, RandomSwitcherSpec, SwitchConfig
from langgraph_switch.engines.tokenizer import Tokenizer
from langgraph_switch.errors import ConfigError
from langgraph_switch.hub.pull import pull
from langgraph_switch.offline.labels import TIE
from langgraph_switch.offline.rows import FAILED_LABEL
from langgraph_switch.offline.sft import SftRow
from langgraph_switch.offline.shards import read_manifest, read_rows
from langgraph_switch.prompts.switcher import SwitcherPrompt
from langgraph_switch.seeds import derive_uniform
from langgraph_switch.trace import Trace

_IGNORED = -100
# A label that begins another one ("1" and "10") is followed by this, so that it learns to end.
_TERMINATOR = "."


class RowSettings(BaseModel):
    """Which rollouts a switcher learns from, and what they say to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    soft_labels: bool = False
    """Learn the softmax of the utilities instead of the best candidate alone (the paper)."""
    soft_label_temperature: float | None = Field(default=None, gt=0)
    """Of that softmax; by default that of the rollouts' settings."""
    keep_ties: bool = False
    """Also learn from rows in which the best candidates did equally well. Soft labels learn from
    them anyway, unless all candidates did."""
    holdout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the queries that is measured on and never trained on."""
    seed: int = Field(default=0, ge=0)
    """Decides which queries are held out."""
    prompt: Literal["plain", "chat"] = "plain"
    """What the switcher reads: the paper's text to the letter, or that text in a user's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSource:
    """The rows of one or more folders of rollouts, and what made them."""

    manifests: tuple[dict[str, Any], ...]
    config: SwitchConfig
    """The latest folder's switch without its switcher; local models by absolute path."""
    rows: tuple[dict[str, Any], ...]
    rows_by_folder: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    @property
    def soft_label_temperature(self) -> float:
        """The temperature that the latest rollouts were made with."""
        return float(self.manifests[-1]["settings"]["soft_label_temperature"])


class EncodedRow(TypedDict):
    """What every kind of switcher reads of a row: token ids."""

    input_ids: list[int]


RowT = TypeVar("RowT", bound=EncodedRow)
RowT_co = TypeVar("RowT_co", bound=EncodedRow, covariant=True)


class Encodes(Protocol[RowT_co]):
    """Turns rollout rows into what a switcher is trained on."""

    def encode(self, row: dict[str, Any]) -> RowT_co:
        """Return a row as the switcher will read it, with what it should answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSplit(Generic[RowT]):
    """Rows to train on, ready for the trainer, and rollout rows to measure on."""

    training: tuple[RowT, ...]
    held_out: tuple[dict[str, Any], ...]
    counts: dict[str, Any]
    """How many rows there were, and where they went."""
    warnings: tuple[str, ...] = ()


def load_rollouts(folders: Sequence[str | Path]) -> RolloutSource:
    """Read folders of rollouts, the latest round last.

    Raises:
        ConfigError: A folder holds no rollouts, or their candidates are not the same.
    """
    paths = [pull(folder) if _is_remote(folder) else Path(folder) for folder in folders]
    if not paths:
        raise ConfigError("No folder of rollouts is given.", hint="name at least one")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("A folder of rollouts is given twice.", hint="name each once")
    manifests = [
        read_manifest(path) | ({"source": str(given)} if _is_remote(given) else {})
        for path, given in zip(paths, folders, strict=True)
    ]
    rows = [_rows(path) for path in paths]
    configs = [_config(manifest, path) for manifest, path in zip(manifests, paths, strict=True)]
    for config, path in zip(configs[1:], paths[1:], strict=True):
        _refuse_other_candidates(configs[0], config, paths[0], path)
    return RolloutSource(
        manifests=tuple(manifests),
        config=configs[-1],
        rows=tuple(row for some in rows for row in some),
        rows_by_folder=tuple(len(some) for some in rows),
        warnings=_rule_warnings(configs),
    )


def _is_remote(folder: str | Path) -> bool:
    return str(folder).startswith("hf://")


def split_rows(
    source: RolloutSource, settings: RowSettings, encoder: Encodes[RowT], *, max_tokens: int
) -> RowSplit[RowT]:
    """Leave out what cannot teach anything or does not fit, and hold out some queries."""
    scored = [row for row in source.rows if row["label"] != FAILED_LABEL]
    usable = [row for row in scored if teaches(row, settings)]
    encoded = [encoder.encode(row) for row in usable]
    fitting = [
        (row, ids)
        for row, ids in zip(usable, encoded, strict=True)
        if len(ids["input_ids"]) <= max_tokens
    ]
    training = [(r, ids) for r, ids in fitting if not is_held_out(r["query_id"], settings)]
    held_out = [r for r, _ in fitting if is_held_out(r["query_id"], settings)]
    by_label = Counter(row["label"] for row, _ in training)
    counts = {
        "rows": len(source.rows),
        "failed": len(source.rows) - len(scored),
        "ties": sum(bool(row["is_tie"]) for row in scored),
        "ties_left_out": len(scored) - len(usable),
        "too_long": len(usable) - len(fitting),
        "training": len(training),
        "training_queries": len({row["query_id"] for row, _ in training}),
        "held_out": len(held_out),
        "held_out_queries": len({row["query_id"] for row in held_out}),
        "labels": {name: by_label[index] for index, name in enumerate(source.config.names)},
    }
    return RowSplit(
        training=tuple(ids for _, ids in training),
        held_out=tuple(held_out),
        counts=counts,
        warnings=_split_warnings(counts),
    )


def teaches(row: dict[str, Any], settings: RowSettings) -> bool:
    """Return whether a scored row is learned from.

    A tie has no best candidate, so there is no hard label; soft labels still learn from it whom
    not to choose, unless all candidates did equally well.
    """
    if settings.keep_ties or not row["is_tie"]:
        return True
    return settings.soft_labels and max(row["means"]) - min(row["means"]) > TIE


def is_held_out(query_id: str, settings: RowSettings) -> bool:
    """Return whether a query is measured on; the same in every round."""
    return derive_uniform(settings.seed, query_id, 0, "holdout") < settings.holdout


def target_probabilities(row: dict[str, Any], *, is_soft: bool, temperature: float) -> list[float]:
    """Return how probable each candidate should be: the best alone, or a softmax of the means."""
    if not is_soft:
        return [float(index == row["label"]) for index in range(len(row["means"]))]
    best = max(row["means"])
    weights = [math.exp((mean - best) / temperature) for mean in row["means"]]
    return [weight / math.fsum(weights) for weight in weights]


def prefix_trace(row: dict[str, Any]) -> Trace:
    """Return the trace behind which a row's candidates were compared."""
    return Trace.from_json(json.loads(row["prefix"]))


class RowEncoder:
    """Turns rollout rows into token ids, exactly as the switcher will read them."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        names: Sequence[str],
        settings: RowSettings,
        *,
        temperature: float,
    ) -> None:
        """Settle how rows are rendered.

        Args:
            tokenizer: That of the model to be trained.
            names: The candidates in order.
            settings: What the rows teach.
            temperature: Of soft labels, where `settings` has none.

        Raises:
            ConfigError: The tokenizer cannot tell labels apart, has no chat template though one
                is asked for, or needs several tokens for a label that is to be soft.
        """
        self._prompt = SwitcherPrompt(tokenizer, names, kind=settings.prompt)
        self._labels = self._prompt.labels.labels
        self._is_soft = settings.soft_labels
        self._temperature = settings.soft_label_temperature or temperature
        self._terminator = tuple(tokenizer.encode(_TERMINATOR))
        if settings.soft_labels and not self.has_single_token_labels:
            raise ConfigError(
                f"Soft labels need labels of one token; this tokenizer writes those of "
                f"{len(self._labels)} candidates with up to {max(map(len, self._labels))}.",
                hint="train with hard labels, or use a base whose tokenizer has one token each",
            )

    @property
    def has_single_token_labels(self) -> bool:
        """Whether the loss is taken over the labels alone, as they are served."""
        return all(len(label) == 1 for label in self._labels)

    def encode(self, row: dict[str, Any]) -> SftRow:
        """Return a row's prompt with its label; the loss falls on the label alone."""
        prompt = self._prompt.encode(prefix_trace(row))
        answer = [*self._labels[row["label"]], *self._end_of(row["label"])]
        encoded = SftRow(input_ids=[*prompt, *answer], labels=[*[_IGNORED] * len(prompt), *answer])
        if self.has_single_token_labels:
            encoded["label_ids"] = [label[0] for label in self._labels]
            encoded["label_probabilities"] = target_probabilities(
                row, is_soft=self._is_soft, temperature=self._temperature
            )
        return encoded

    def _end_of(self, label: int) -> tuple[int, ...]:
        own = self._labels[label]
        is_begun = any(len(one) > len(own) and one[: len(own)] == own for one in self._labels)
        return self._terminator if is_begun else ()


def _rows(folder: Path) -> list[dict[str, Any]]:
    found = list(read_rows(folder))
    if not found:
        raise ConfigError(
            f"{str(folder)!r} holds no rows yet.",
            hint=f"collect them first: langgraph-switch rollout --out {folder}",
        )
    return found


def _config(manifest: dict[str, Any], folder: Path) -> SwitchConfig:
    if manifest.get("kind") != "rollouts":
        raise ConfigError(
            f"{str(folder)!r} holds {manifest.get('kind', 'something else')!r}, not rollouts.",
            hint="name a folder that langgraph-switch rollout made",
        )
    data = dict(manifest["config"]) | {"switcher": RandomSwitcherSpec().model_dump()}
    config = SwitchConfig.from_dict(data)
    resolved = [_resolved(candidate, folder) for candidate in config.candidates]
    return config.with_changes(candidates=tuple(resolved))


def _resolved(candidate: CandidateSpec, folder: Path) -> CandidateSpec:
    """Return a candidate whose local weights are found from anywhere."""
    changes = {}
    for field, value in (("model", candidate.model), ("adapter", candidate.adapter)):
        if value is None or not value.startswith("./"):
            continue
        path = (folder / value).resolve()
        if not path.is_dir():
            raise ConfigError(
                f"The rollouts in {str(folder)!r} name candidate {candidate.name!r} as "
                f"{value!r}, without saying beside what.",
                hint=f"put its weights at {str(path)!r}, or write the absolute path into "
                "manifest.json",
            )
        changes[field] = str(path)
    return candidate.model_copy(update=changes)


_IDENTITY = ("name", "model", "revision", "adapter", "adapter_revision", "role")


def _refuse_other_candidates(
    first: SwitchConfig, other: SwitchConfig, first_folder: Path, folder: Path
) -> None:
    if first.names != other.names:
        differing = [f"{', '.join(first.names)} there, {', '.join(other.names)} here"]
    else:
        differing = [
            f"{a.name}.{field}: {getattr(a, field)!r} there, {getattr(b, field)!r} here"
            for a, b in zip(first.candidates, other.candidates, strict=True)
            for field in _IDENTITY
            if getattr(a, field) != getattr(b, field)
        ]
    if differing:
        raise ConfigError(
            f"{str(folder)!r} has other candidates than {str(first_folder)!r}, or another "
            "order of them, so its labels mean something else:\n  - " + "\n  - ".join(differing),
            hint="train on folders of the same candidates in the same order",
        )


def _rule_warnings(configs: Sequence[SwitchConfig]) -> tuple[str, ...]:
    rules = [config.model_dump(exclude={"candidates", "switcher"}) for config in configs]
    differing = sorted({k for one in rules for k in one if one[k] != rules[-1][k]})
    if not differing:
        return ()
    return (
        f"The folders differ in {', '.join(differing)}; the switch gets those of the last one.",
    )


def _split_warnings(counts: dict[str, Any]) -> tuple[str, ...]:
    warnings = []
    present = [name for name, number in counts["labels"].items() if number]
    if len(present) == 1:
        warnings.append(
            f"Every training row has the label {present[0]!r}: the switcher can learn nothing "
            "but to name it always."
        )
    if not counts["held_out"]:
        warnings.append("No row is held out, so nothing is measured: raise holdout.")
    return tuple(warnings)
