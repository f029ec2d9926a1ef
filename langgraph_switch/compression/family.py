"""A family of checkpoints as one base and adapters: compress, write, measure.

Knows nothing of the command line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import AutoTokenizer

from langgraph_switch.compression.adapter import Adapter, Bounds, express
from langgraph_switch.compression.moments import input_moments
from langgraph_switch.config import CandidateSpec, SwitchConfig
from langgraph_switch.engines.models import SharedModel, load_shared_model
from langgraph_switch.engines.packed_linear import weight_storages
from langgraph_switch.errors import ConfigError
from langgraph_switch.loop import finish_traces
from langgraph_switch.offline.responses import fresh_trace
from langgraph_switch.prompts.handover import response_ids
from langgraph_switch.solo import solo
from langgraph_switch.switch import Switch
from langgraph_switch.switchers.base import Turn
from langgraph_switch.tasks import Task

REPORT = "compression.json"
_STORED_DTYPES = {torch.float16, torch.bfloat16}


class CompressionSettings(BaseModel):
    """How a family is compressed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    """The candidate whose weights stay as they are; all others become adapters on it."""
    error: float = Field(default=0.2, gt=0, lt=1)
    """Most of a linear layer's change that may be lost, relative."""
    embedding_error: float | None = Field(default=None, gt=0, lt=1)
    """The same for the embedding; by default a quarter of `error`."""
    calibration: int = Field(default=150, ge=0)
    """Questions of the training split that are answered to learn what layers are fed; 0: the
    bound is on the weights instead of on the outputs."""

    @property
    def bounds(self) -> Bounds:
        """The bounds of every kind of layer."""
        own = self.embedding_error
        return Bounds(error=self.error, embedding_error=self.error / 4 if own is None else own)


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed family."""

    config: SwitchConfig
    """Its `switch.json`, loaded."""
    adapters: dict[str, Adapter]
    """By candidate."""


def compress_family(
    config: SwitchConfig,
    settings: CompressionSettings,
    out: Path,
    *,
    task: Task | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Compressed:
    """Write a family's adapters and their `switch.json`.

    Args:
        config: The family; its candidates are whole checkpoints of one shape.
        settings: Base and bounds.
        out: A new or empty folder, or one that holds a compressed family.
        task: Its training split shows what layers are fed; without, weights alone count.
        on_step: Told what is being done.

    Raises:
        ConfigError: The checkpoints cannot be expressed on this base.
        ModelLoadError: One cannot be loaded.
    """
    _check(config, settings, out)
    moments: dict[str, dict[str, Tensor]] = {}
    if task is not None and settings.calibration:
        on_step("reading what layers are fed")
        moments = family_moments(config, task, settings)
    portable = config.with_absolute_models()
    base_spec = config.candidate(settings.base)
    base = _load(config, base_spec)
    adapters: dict[str, Adapter] = {}
    specs: list[CandidateSpec] = []
    for spec, kept in zip(config.candidates, portable.candidates, strict=True):
        if spec.name == settings.base or _is_same(spec, base_spec):
            specs.append(kept)
            continue
        on_step(f"expressing {spec.name} on {settings.base}")
        tuned = _load(config, spec)
        source = portable.candidate(settings.base).model
        adapter = express(
            base.module,
            tuned.module,
            settings.bounds,
            moments=moments.get(spec.name),
            source=source,
        )
        folder = out / spec.name
        adapter.save(folder, dtype=_stored_dtype(base))
        _save_beside(config, spec, tuned, folder)
        adapters[spec.name] = adapter
        specs.append(_on_base(kept, portable.candidate(settings.base)))
    portable.with_changes(candidates=tuple(specs)).save(out)
    report = settings.model_dump(mode="json") | {
        "embedding_error": settings.bounds.embedding_error,
        "bound_on": "outputs" if moments else "weights",
        "layers": {n: [one.to_json() for one in a.layers] for n, a in adapters.items()},
    }
    write_report(out, report)
    return Compressed(SwitchConfig.load(out), adapters)


def family_moments(
    config: SwitchConfig, task: Task, settings: CompressionSettings
) -> dict[str, dict[str, Tensor]]:
    """Return by candidate what its layers are fed when it and the whole switch answer.

    Args:
        config: The family.
        task: Questions of its training split are asked.
        settings: Which candidate is the base (it needs none), and how many questions.
    """
    switch = Switch(config)
    examples = task.split(task.train_split)[: settings.calibration]
    found = {}
    for name, candidate in switch.candidates.items():
        if name == settings.base:
            continue
        sequences: list[list[int]] = []
        for writer in (switch, solo(switch, name)):
            turns = [
                Turn(fresh_trace(writer, one, seed=0), f"moments/{one.id}") for one in examples
            ]
            sequences += [
                [*candidate.prompt.encode(trace), *response_ids(trace, candidate.engine)]
                for trace in finish_traces(writer, turns)
            ]
        model = _load(config, config.candidate(name))
        found[name] = input_moments(model.module, sequences)
    return found


def weight_bytes(models: Sequence[SharedModel]) -> int:
    """Return the bytes of weights that models hold, shared ones once."""
    storages: dict[int, int] = {}
    for model in models:
        storages |= weight_storages(model.module)
    return sum(storages.values())


def write_report(out: Path, report: dict[str, Any]) -> None:
    """Write the report beside the adapters."""
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (out / REPORT).write_text(text, encoding="utf-8")


def _check(config: SwitchConfig, settings: CompressionSettings, out: Path) -> None:
    if settings.base not in config.names:
        raise ConfigError(
            f"The base {settings.base!r} is no candidate.",
            hint=f"use one of {', '.join(config.names)}",
        )
    if adapted := [spec.name for spec in config.candidates if spec.adapter]:
        raise ConfigError(
            f"Candidate {adapted[0]!r} already is an adapter.",
            hint="compress whole checkpoints; candidates on one base share its weights as they are",
        )
    if out.exists() and any(out.iterdir()) and not (out / REPORT).is_file():
        raise ConfigError(f"{str(out)!r} holds something else.", hint="name a new folder")
    out.mkdir(parents=True, exist_ok=True)


def _load(config: SwitchConfig, spec: CandidateSpec) -> SharedModel:
    return load_shared_model(
        config.resolve_model(spec.model),
        revision=spec.revision,
        device=spec.device,
        dtype=spec.dtype,
    )


def _is_same(one: CandidateSpec, other: CandidateSpec) -> bool:
    return (one.model, one.revision) == (other.model, other.revision)


def _stored_dtype(base: SharedModel) -> torch.dtype:
    """Return the dtype that the base is saved in: adapters need no more."""
    saved = base.module.config.get_text_config().dtype
    return saved if saved in _STORED_DTYPES else torch.float32


def _on_base(spec: CandidateSpec, base: CandidateSpec) -> CandidateSpec:
    return spec.model_copy(
        update={
            "model": base.model,
            "revision": base.revision,
            "device": base.device,
            "dtype": base.dtype,
            "adapter": f"./{spec.name}",
        }
    )


def _save_beside(
    config: SwitchConfig, spec: CandidateSpec, tuned: SharedModel, folder: Path
) -> None:
    """Save what else tells the checkpoint from its base: chat template, ends of sequence."""
    tokenizer = AutoTokenizer.from_pretrained(
        config.resolve_model(spec.model), revision=spec.revision or "main", trust_remote_code=False
    )
    tokenizer.save_pretrained(folder)
    if tuned.module.generation_config is not None:
        tuned.module.generation_config.save_pretrained(folder)
