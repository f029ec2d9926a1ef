"""What a switch will hold in memory, told before any weights are downloaded.

Reads configurations and file sizes alone. Knows nothing of how weights are loaded.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import HfApi, hf_hub_download

from langgraph_switch.config import (
    HeadSwitcherSpec,
    LMSwitcherSpec,
    ModelRef,
    SwitchConfig,
)
from langgraph_switch.engines.load_errors import load_failures
from langgraph_switch.engines.memory import kv_bytes_per_token
from langgraph_switch.engines.models import resolve_device
from langgraph_switch.engines.pool import base_weights

_CPU_BYTES = 4  # Half-precision weights are computed in float32 there.
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
_WEIGHTS = ".safetensors"
SPREAD = "spread"
"""In place of a device: accelerate decides."""


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """One copy of weights, whoever uses it."""

    model: str
    revision: str | None
    device: str
    """Where it computes; `spread`, or several, where accelerate places it."""
    is_offloaded: bool
    """Whether it is held on the CPU and visits its device for its turns."""
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

    @property
    def num_bytes(self) -> int:
        """Bytes of weights and adapters."""
        return self.weight_bytes + sum(self.adapters.values())


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """What one device will hold at the worst moment, one response at a time."""

    device: str
    weight_bytes: int
    """Weights that stay, and the largest of those that visit."""
    kv_bytes: int
    """Keys and values of one response of full length, its prompt aside."""
    free_bytes: int | None
    """What the device has free now; None where nobody can say."""

    @property
    def fits(self) -> bool | None:
        """Whether there is room; None where nobody can say."""
        if self.free_bytes is None:
            return None
        return self.weight_bytes + self.kv_bytes <= self.free_bytes


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What is held where."""

    weights: tuple[HeldWeights, ...]
    max_context_tokens: int
    """Tokens of one trace that the plan counts: the configuration's `max_tokens`."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights and adapters."""
        return sum(one.num_bytes for one in self.weights)

    @property
    def kv_bytes_per_trace(self) -> int:
        """Bytes of keys and values of a response of full length, its prompt aside."""
        return self.max_context_tokens * sum(one.kv_bytes_per_token for one in self.weights)

    def devices(self) -> tuple[DeviceNeed, ...]:
        """Return what each device will hold, and what it has free now."""
        staying: defaultdict[str, int] = defaultdict(int)
        visiting: defaultdict[str, int] = defaultdict(int)
        kv: defaultdict[str, int] = defaultdict(int)
        for one in self.weights:
            kv[one.device] += one.kv_bytes_per_token * self.max_context_tokens
            staying["cpu" if one.is_offloaded else one.device] += one.num_bytes
            if one.is_offloaded:
                visiting[one.device] = max(visiting[one.device], one.num_bytes)
        names = dict.fromkeys([*kv, *staying])
        return tuple(
            DeviceNeed(name, staying[name] + visiting[name], kv[name], free_bytes(name))
            for name in names
        )


def free_bytes(device: str) -> int | None:
    """Return how much memory a device has free now; None where nobody can say."""
    if device == SPREAD:  # All of this machine, as accelerate would fill it.
        cards = sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
        return cards + int(psutil.virtual_memory().available)
    kind = torch.device(device).type
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available) if kind in {"cpu", "mps"} else None


def published_sizes(repo_id: str, folder: Path, *, token: str | None = None) -> dict[Path, int]:
    """Return the bytes of a repo's weights, by where they would lie in its snapshot here.

    Raises:
        ModelLoadError: The repo cannot be looked at.
    """
    commit = folder.name  # The Hub's cache calls a snapshot so.
    sizes, _ = _look_up(repo_id, commit, token)
    return {folder / name: size for name, size in sizes.items()}


def _look_up(
    repo_id: str, revision: str | None, token: str | None
) -> tuple[dict[str, int], str | None]:
    """Return the bytes of a repo's weights by their names, and its licence."""
    with load_failures(repo_id, revision):
        info = HfApi(token=token).model_info(repo_id, revision=revision, files_metadata=True)
    files = [one for one in info.siblings or () if one.rfilename.endswith(_WEIGHTS)]
    sizes = {one.rfilename: one.size or 0 for one in files}
    return sizes, getattr(info.card_data, "license", None)


def plan_memory(
    config: SwitchConfig, *, token: str | None = None, sizes: Mapping[Path, int] | None = None
) -> MemoryPlan:
    """Return what a switch will hold.

    Every distinct base is held once; a switcher on a candidate's base adds its adapter alone.
    What a server has is not held here.

    Args:
        config: The switch.
        token: Overrides what `hf auth login` has stored.
        sizes: Of weights in folders of this machine that were not downloaded: `published_sizes`.

    Raises:
        ModelLoadError: A repo cannot be looked at.
        ConfigError: This machine has no such device.
    """
    users: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    adapters: defaultdict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    references: dict[tuple[str, ...], ModelRef] = {}
    models = _Models(token, sizes or {})
    for name, ref in _references(config):
        key = base_weights(ref)
        references.setdefault(key, ref)
        users[key].append(name)
        if ref.adapter:
            size, _ = models.files(ref.adapter, ref.adapter_revision)
            adapters[key][ref.adapter] = size
    weights = [_held(ref, tuple(users[k]), adapters[k], models) for k, ref in references.items()]
    return MemoryPlan(tuple(weights), config.max_tokens)


def _references(config: SwitchConfig) -> list[tuple[str, ModelRef]]:
    """Return every model that this process loads, by who uses it; servers hold their own."""
    found: list[tuple[str, ModelRef]] = [
        (spec.name, spec) for spec in config.candidates if spec.engine is None
    ]
    switcher = config.switcher
    if isinstance(switcher, LMSwitcherSpec) and not config.is_served(switcher):
        found.append(("switcher", config.switcher_model(switcher)))
    elif isinstance(switcher, HeadSwitcherSpec):  # It reads a candidate's weights.
        reader = switcher.candidate or config.anchor_name
        found.append(("switcher", config.candidate(reader)))
    resolve = config.resolve_model
    return [
        (
            name,
            ref.model_copy(
                update={
                    "model": resolve(ref.model),
                    "adapter": ref.adapter and resolve(ref.adapter),
                }
            ),
        )
        for name, ref in found
    ]


def _held(
    ref: ModelRef, users: tuple[str, ...], adapters: dict[str, int], models: _Models
) -> HeldWeights:
    file_bytes, license_name = models.files(ref.model, ref.revision)
    described = models.config(ref.model, ref.revision)
    saved = _BYTES.get(str(described.get("dtype") or described.get("torch_dtype")), 4)
    device = _device(ref)
    computed = saved if ref.dtype == "auto" else _BYTES[ref.dtype]
    is_on_cpu = device == "cpu" or (device == SPREAD and not torch.cuda.is_available())
    if ref.dtype == "auto" and is_on_cpu:
        computed = _CPU_BYTES
    return HeldWeights(
        model=ref.model,
        revision=ref.revision,
        device=device,
        is_offloaded=ref.offload == "cpu" and device != "cpu",
        users=users,
        file_bytes=file_bytes,
        weight_bytes=file_bytes * computed // saved,
        kv_bytes_per_token=kv_bytes_per_token(described, element_bytes=computed),
        license=license_name,
        adapters=adapters,
    )


def _device(ref: ModelRef) -> str:
    """Return where a model computes; a map that names one device is that device."""
    if ref.device_map is None:
        return str(resolve_device(ref.device))
    if isinstance(ref.device_map, str):
        return SPREAD
    named = {f"cuda:{one}" if isinstance(one, int) else one for one in ref.device_map.values()}
    return str(resolve_device(named.pop())) if len(named) == 1 else SPREAD


@dataclass(frozen=True)
class _Models:
    """What configurations and file lists tell of models."""

    token: str | None
    sizes: Mapping[Path, int]
    """Of weights that are published and not here."""

    def files(self, source: str, revision: str | None) -> tuple[int, str | None]:
        """Return the size of a model's safetensors and its licence."""
        folder = Path(source)
        if folder.is_dir():
            known = {file: file.stat().st_size for file in folder.glob("*.safetensors")}
            there = {file: size for file, size in self.sizes.items() if file.parent == folder}
            return sum((there | known).values()), None
        sizes, license_name = _look_up(source, revision, self.token)
        return sum(sizes.values()), license_name

    def config(self, source: str, revision: str | None) -> dict[str, Any]:
        """Return what a model's `config.json` holds."""
        file = Path(source) / "config.json"
        if not Path(source).is_dir():
            with load_failures(source, revision):
                file = Path(
                    hf_hub_download(source, "config.json", revision=revision, token=self.token)
                )
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
