"""One checkpoint as an ordinary peft adapter on another: low-rank where layers are matrices.

Linear layers and the embedding are factorised; whatever else changed (norms, biases, matrices
whose factors would be larger than they are) goes along whole. Nothing unchanged is stored. Knows
nothing of families, tasks or files of configurations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from langgraph_switch.compression.low_rank import Factors, factorize
from langgraph_switch.errors import ConfigError

_PREFIX = "base_model.model."
_WEIGHT = "weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of a layer's change may be lost."""

    error: float
    """Of a linear layer, relative: of what the change does to the layer's inputs if those are
    known, else of the change itself (Frobenius norm)."""
    embedding_error: float
    """Of the embedding, and of the head."""


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of one layer."""

    layer: str
    kind: Literal["low-rank", "whole"]
    shape: tuple[int, ...]
    rank: int | None
    error: float
    num_parameters: int
    """Numbers that are stored."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A checkpoint expressed on a base."""

    config: LoraConfig
    tensors: dict[str, Tensor]
    layers: list[LayerReport]

    def save(self, folder: Path, *, dtype: torch.dtype) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        stored = {name: t.to("cpu", dtype).contiguous() for name, t in self.tensors.items()}
        save_file(stored, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        self.config.save_pretrained(str(folder))


def express(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    bounds: Bounds,
    *,
    moments: Mapping[str, Tensor] | None = None,
    source: str = "",
) -> Adapter:
    """Return a checkpoint as an adapter.

    Args:
        base: Whose weights are kept.
        tuned: The checkpoint; of the same shape.
        bounds: What may be lost.
        moments: Second moments of the inputs of `tuned`'s linear layers, by name.
        source: What the adapter says its base is.

    Raises:
        ConfigError: The checkpoints have different shapes, do not differ, or differ too much.
    """
    _check_shapes(base, tuned)
    is_tied = bool(base.config.get_text_config().tie_word_embeddings)
    ranks: dict[str, int] = {}
    whole: list[str] = []
    tensors: dict[str, Tensor] = {}
    layers: list[LayerReport] = []
    for name, old, new in _changed(base, tuned, is_tied=is_tied):
        factors = _factors(base, name, old, new, bounds, moments or {})
        if factors is None:
            whole.append(name)
            for key, value in new.named_parameters(recurse=False):
                tensors[f"{_PREFIX}{name}.{key}"] = value.detach()
            number = sum(p.numel() for p in new.parameters(recurse=False))
            layers.append(LayerReport(name, "whole", _shape(new), None, 0.0, number))
            continue
        ranks[name] = factors.rank
        tensors |= _named(name, old, factors)
        number = factors.up.numel() + factors.down.numel()
        layers.append(
            LayerReport(name, "low-rank", _shape(new), factors.rank, factors.error, number)
        )
    if not layers:
        raise ConfigError(
            f"{source or 'The base'} and the checkpoint have the same weights.",
            hint="name the same model for both candidates: it is loaded once",
        )
    if not ranks:
        raise ConfigError(
            f"No layer's change from {source or 'the base'} is of low rank within this error, so "
            "an adapter would be as large as the checkpoint.",
            hint="allow a larger --error, or keep the checkpoint whole",
        )
    if is_tied:
        _name_head_too(base, ranks, whole, tensors)
    return Adapter(_config(ranks, whole, source=source), tensors, layers)


def _check_shapes(base: PreTrainedModel, tuned: PreTrainedModel) -> None:
    ours = {name: tuple(p.shape) for name, p in base.named_parameters()}
    theirs = {name: tuple(p.shape) for name, p in tuned.named_parameters()}
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise ConfigError(
                f"The checkpoints differ in shape: {name} is {ours.get(name)} in the base, "
                f"{theirs.get(name)} in the other.",
                hint="compress checkpoints of one architecture and one vocabulary",
            )


def _changed(
    base: PreTrainedModel, tuned: PreTrainedModel, *, is_tied: bool
) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Yield the modules whose own parameters differ."""
    others = dict(tuned.named_modules())
    head = _head_name(base)
    for name, old in base.named_modules():
        if is_tied and name == head:
            continue
        pairs = zip(
            old.parameters(recurse=False), others[name].parameters(recurse=False), strict=True
        )
        if any(not torch.equal(a, b.to(a.device, a.dtype)) for a, b in pairs):
            yield name, old, others[name]


def _factors(
    base: PreTrainedModel,
    name: str,
    old: nn.Module,
    new: nn.Module,
    bounds: Bounds,
    moments: Mapping[str, Tensor],
) -> Factors | None:
    """Return the change of a layer as factors; None where it is better kept whole."""
    if not (isinstance(old, nn.Linear | nn.Embedding) and isinstance(new, type(old))):
        return None
    if not _has_equal_bias(old, new):
        return None
    ends = (_embedding_name(base), _head_name(base))
    bound = bounds.embedding_error if name in ends else bounds.error
    # A tied embedding also is the head: that is where its inputs are known.
    seen_as = _head_name(base) if isinstance(old, nn.Embedding) and _is_tied(base) else name
    delta = new.weight.detach().to(old.weight.device) - old.weight.detach()
    found = factorize(delta.float(), error=bound, moment=moments.get(seen_as or name))
    return found if found.up.numel() + found.down.numel() < delta.numel() else None


def _has_equal_bias(old: nn.Module, new: nn.Module) -> bool:
    ours, theirs = (dict(one.named_parameters(recurse=False)).get("bias") for one in (old, new))
    return ours is None or theirs is None or torch.equal(ours, theirs)


def _named(name: str, layer: nn.Module, factors: Factors) -> dict[str, Tensor]:
    if isinstance(layer, nn.Embedding):  # [out, in] is [tokens, width] here, peft's the other way.
        return {
            f"{_PREFIX}{name}.lora_embedding_A": factors.up.T,
            f"{_PREFIX}{name}.lora_embedding_B": factors.down.T,
        }
    return {
        f"{_PREFIX}{name}.lora_A.{_WEIGHT}": factors.down,
        f"{_PREFIX}{name}.lora_B.{_WEIGHT}": factors.up,
    }


def _name_head_too(
    base: PreTrainedModel, ranks: dict[str, int], whole: list[str], tensors: dict[str, Tensor]
) -> None:
    """Store a tied embedding's change under the head's name as well.

    peft's `ensure_weight_tying` would spare that, but loses the head of every adapter after the
    first (0.21.2). `SharedModel` holds in memory once what both names have in common.
    """
    embedding, head = _embedding_name(base), _head_name(base)
    if embedding is None or head is None:
        return
    if embedding in ranks:
        ranks[head] = ranks[embedding]
        down, up = (tensors[f"{_PREFIX}{embedding}.lora_embedding_{one}"] for one in "BA")
        tensors[f"{_PREFIX}{head}.lora_A.{_WEIGHT}"] = down.T.clone()
        tensors[f"{_PREFIX}{head}.lora_B.{_WEIGHT}"] = up.T.clone()
    elif embedding in whole:
        whole.append(head)
        key = f"{_PREFIX}{embedding}.{_WEIGHT}"
        tensors[f"{_PREFIX}{head}.{_WEIGHT}"] = tensors[key].clone()


def _config(ranks: Mapping[str, int], whole: list[str], *, source: str) -> LoraConfig:
    most = max(ranks.values(), default=1)
    different = {name: rank for name, rank in ranks.items() if rank != most}
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=source,
        inference_mode=True,
        r=most,
        lora_alpha=most,
        rank_pattern=different,
        alpha_pattern=dict(different),
        target_modules=sorted(ranks),
        modules_to_save=sorted(whole) or None,
    )


def _shape(module: nn.Module) -> tuple[int, ...]:
    return tuple(next(module.parameters(recurse=False)).shape)


def _is_tied(module: PreTrainedModel) -> bool:
    return bool(module.config.get_text_config().tie_word_embeddings)


def _embedding_name(module: PreTrainedModel) -> str | None:
    return _name_of(module, module.get_input_embeddings())


def _head_name(module: PreTrainedModel) -> str | None:
    return _name_of(module, module.get_output_embeddings())  # type: ignore[no-untyped-call]


def _name_of(module: PreTrainedModel, part: nn.Module | None) -> str | None:
    return next((n for n, one in module.named_modules() if part is not None and one is part), None)
