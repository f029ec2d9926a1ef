"""What a switch will hold in memory, told before any weights are downloaded.

Reads configurations and file sizes alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from langgraph_switch.config import (
    CandidateSpec,
    HeadSwitcherSpec,
    LMSwitcherSpec,
    ModelRef,
    SwitchConfig,
)
from langgraph_switch.engines.memory import kv_bytes_per_token
from langgraph_switch.engines.models import resolve_device
from langgraph_switch.hub.errors import hub_failures

_CPU_BYTES = 4  # Half-precision weights are computed in float32 there.
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """One copy of weights, whoever uses it."""

    model: str
    revision: str | None
    device: str
    users: tuple[str, ...]
    """Candidates, and `switcher`."""
    file_bytes: int
    """Size of its safetensors files."""
    weight_bytes: int
    """What they take in memory, in the precision in which they are computed."""
    kv_bytes_per_token: int
    """Keys and values of one token of one trace."""
    license: str | None
    adapters: dict[str, int]
    """Adapters on it and their sizes in bytes."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What is held where."""

    weights: tuple[HeldWeights, ...]
    max_context_tokens: int
    """Tokens of one trace that the plan counts: the configuration's `max_tokens`."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights and adapters."""
        return sum(one.weight_bytes + sum(one.adapters.values()) for one in self.weights)

    @property
    def kv_bytes_per_trace(self) -> int:
        """Bytes of keys and values of a response of full length, its prompt aside."""
        return self.max_context_tokens * sum(one.kv_bytes_per_token for one in self.weights)


def plan_memory(config: SwitchConfig, *, token: str | None = None) -> MemoryPlan:
    """Return what a switch will hold.

    Every distinct base is held once; a switcher on a candidate's base adds its adapter alone.
    What a server has is not held here.

    Raises:
        ModelLoadError: A repo cannot be looked at.
        ConfigError: This machine has no such device.
    """
    users: dict[tuple[str, str | None, str, str], list[str]] = {}
    adapters: dict[tuple[str, str | None, str, str], dict[str, int]] = {}
    for name, ref in _references(config):
        key = (config.resolve_model(ref.model), ref.revision, ref.device, ref.dtype)
        users.setdefault(key, []).append(name)
        if ref.adapter:
            source = config.resolve_model(ref.adapter)
            size, _ = _files(source, ref.adapter_revision, token)
            adapters.setdefault(key, {})[source] = size
    weights = [
        _held(key, tuple(names), adapters.get(key, {}), token) for key, names in users.items()
    ]
    return MemoryPlan(tuple(weights), config.max_tokens)


def _references(config: SwitchConfig) -> list[tuple[str, ModelRef]]:
    found: list[tuple[str, ModelRef]] = [
        (spec.name, spec) for spec in config.candidates if spec.engine is None
    ]
    switcher = config.switcher
    if isinstance(switcher, LMSwitcherSpec) and switcher.engine is None:
        base = config.candidate(switcher.candidate) if switcher.candidate else switcher
        if isinstance(base, CandidateSpec) and base.engine is not None:
            return found
        own = switcher if switcher.adapter else base
        fields: dict[str, Any] = {
            "model": base.model,
            "revision": base.revision,
            "device": base.device,
            "dtype": base.dtype,
            "adapter": own.adapter,
            "adapter_revision": own.adapter_revision,
        }
        found.append(("switcher", ModelRef(**fields)))
    elif isinstance(switcher, HeadSwitcherSpec):  # It reads a candidate's weights.
        found.append(("switcher", config.candidate(switcher.candidate or config.anchor_name)))
    return found


def _held(
    key: tuple[str, str | None, str, str],
    users: tuple[str, ...],
    adapters: dict[str, int],
    token: str | None,
) -> HeldWeights:
    model, revision, device, dtype = key
    file_bytes, license_name = _files(model, revision, token)
    described = _model_config(model, revision, token)
    saved = _BYTES.get(str(described.get("dtype") or described.get("torch_dtype")), 4)
    held_on = str(resolve_device(device))
    computed = saved if dtype == "auto" else _BYTES[dtype]
    if dtype == "auto" and held_on == "cpu":
        computed = _CPU_BYTES
    return HeldWeights(
        model=model,
        revision=revision,
        device=held_on,
        users=users,
        file_bytes=file_bytes,
        weight_bytes=file_bytes * computed // saved,
        kv_bytes_per_token=kv_bytes_per_token(described, element_bytes=computed),
        license=license_name,
        adapters=adapters,
    )


def _files(source: str, revision: str | None, token: str | None) -> tuple[int, str | None]:
    """Return the size of a model's safetensors and its licence."""
    if Path(source).is_dir():
        return sum(file.stat().st_size for file in Path(source).glob("*.safetensors")), None
    with hub_failures(source):
        info = HfApi(token=token).model_info(source, revision=revision, files_metadata=True)
    files = [one for one in info.siblings or () if one.rfilename.endswith(".safetensors")]
    return sum(one.size or 0 for one in files), getattr(info.card_data, "license", None)


def _model_config(source: str, revision: str | None, token: str | None) -> dict[str, Any]:
    file = Path(source) / "config.json"
    if not Path(source).is_dir():
        with hub_failures(source):
            file = Path(hf_hub_download(source, "config.json", revision=revision, token=token))
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
