"""The adapters of one base side by side, so that one pass serves rows of different adapters.

The low-rank factors of all adapters lie in one matrix per layer. Every row goes through all of
them, and a mask keeps what is its own: two plain matrix products, however many adapters there
are. What an adapter holds whole (a norm, say) is computed for its rows alone. Knows nothing of
requests, rows of keys and values, or text.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from peft.tuners.lora import Embedding, Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn
from torch.nn import functional

Layout: TypeAlias = tuple[tuple[str, int, float], ...]
"""Adapters in the order of their columns, with their rank and scale."""
Forward: TypeAlias = Callable[..., Tensor]
_EXPERTS = "experts"


class AdapterStack:
    """Lets the rows of one pass use different adapters of a base.

    The adapters stay usable one at a time: peft's own layers become views of the stacked ones,
    so nothing is held twice.
    """

    def __init__(self, module: nn.Module) -> None:
        """Take a base with its adapters, as peft has put them in; needs `can_stack`."""
        self._rows: RowAdapters | None = None
        self._stacked: dict[tuple[int, ...], Tensor] = {}
        for layer in _adapted(module):
            alone = type(layer).forward.__get__(layer)
            if isinstance(layer, ModulesToSaveWrapper):
                forward = self._whole(layer, alone)
            elif isinstance(layer, Embedding):
                forward = self._embedding(layer, alone)
            else:
                forward = self._linear(layer, alone)
            layer.forward = forward
        self._stacked.clear()  # Was needed to find factors that several layers share.

    @contextlib.contextmanager
    def using(self, rows: RowAdapters) -> Iterator[None]:
        """Make passes use the rows' own adapters; a pass may have the first rows alone."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _linear(self, layer: Any, alone: Forward) -> Forward:
        layout = _layout(layer, layer.lora_A)
        down = self._stack([layer.lora_A[name].weight for name, *_ in layout])  # [R, in]
        up = self._stack([layer.lora_B[name].weight.T for name, *_ in layout])  # [R, out]
        for name, (first, second) in _columns(layout).items():
            layer.lora_A[name].weight.data = down[first:second]
            layer.lora_B[name].weight.data = up[first:second].T

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # x: [B, Q, in]
            if self._rows is None:
                return alone(x, *args, **kwargs)
            base: Tensor = layer.base_layer(x, *args, **kwargs)
            inner = (
                functional.linear(x.to(down.dtype), down) * self._rows.mask(layout, down)[: len(x)]
            )
            return _added(base, inner, up)

        return forward

    def _embedding(self, layer: Any, alone: Forward) -> Forward:
        layout = _layout(layer, layer.lora_embedding_A)
        table = self._stack([layer.lora_embedding_A[name] for name, *_ in layout])  # [R, V]
        up = self._stack([layer.lora_embedding_B[name].T for name, *_ in layout])  # [R, out]
        for name, (first, second) in _columns(layout).items():
            layer.lora_embedding_A[name].data = table[first:second]
            layer.lora_embedding_B[name].data = up[first:second].T

        def forward(ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # ids: [B, Q]
            if self._rows is None:
                return alone(ids, *args, **kwargs)
            base: Tensor = layer.base_layer(ids, *args, **kwargs)
            inner = functional.embedding(ids, table.T) * self._rows.mask(layout, table)[: len(ids)]
            return _added(base, inner, up)

        return forward

    def _whole(self, layer: Any, alone: Forward) -> Forward:
        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self._rows is None:
                return alone(x, *args, **kwargs)
            result: Tensor = layer.original_module(x, *args, **kwargs)
            for name, whole_index in self._rows.index_by_adapter.items():
                index = whole_index[whole_index < len(x)]
                if name in layer.modules_to_save and len(index):
                    result[index] = layer.modules_to_save[name](x[index], *args, **kwargs)
            return result

        return forward

    def _stack(self, parts: Sequence[Tensor]) -> Tensor:
        """Return matrices one above the other; those of tied layers once."""
        key = tuple(part.data_ptr() for part in parts)
        if key not in self._stacked:
            self._stacked[key] = torch.cat([part.detach() for part in parts]).contiguous()
        return self._stacked[key]


class RowAdapters:
    """Which adapter each row of a batch uses."""

    def __init__(self, adapters: Sequence[str | None], device: torch.device) -> None:
        """Take the rows' adapters in order; None is the bare base."""
        self._adapters = list(adapters)
        self._device = device
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(self._adapters):
            if name is not None:
                positions[name].append(position)
        self.index_by_adapter = {
            name: torch.tensor(found, device=device) for name, found in positions.items()
        }
        self._masks: dict[Layout, Tensor] = {}

    def select(self, positions: Sequence[int]) -> None:
        """Keep these rows alone."""
        self.__init__([self._adapters[i] for i in positions], self._device)  # type: ignore[misc]

    def mask(self, layout: Layout, like: Tensor) -> Tensor:
        """Return each row's scale where a column is its own adapter's, else 0: [B, 1, R]."""
        if layout not in self._masks:
            rows = [
                [scale if own == name else 0.0 for name, rank, scale in layout for _ in range(rank)]
                for own in self._adapters
            ]
            self._masks[layout] = torch.tensor(rows, device=like.device, dtype=like.dtype)[:, None]
        return self._masks[layout]


def share_ends(embedding: nn.Module, head: nn.Module | None, adapter: str) -> None:
    """Hold once what an adapter changes alike in the embedding and in the head tied to it."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(embedding, Embedding) and isinstance(head, Linear):
        if adapter in embedding.lora_embedding_A and adapter in head.lora_A:
            pairs = [
                (embedding.lora_embedding_B[adapter].data.T, head.lora_A[adapter].weight),
                (embedding.lora_embedding_A[adapter].data.T, head.lora_B[adapter].weight),
            ]
    elif isinstance(embedding, ModulesToSaveWrapper) and isinstance(head, ModulesToSaveWrapper):
        both = (embedding.modules_to_save, head.modules_to_save)
        if all(adapter in one for one in both):
            own, other = (one[adapter].weight for one in both)
            pairs = [(own.data, other)]
    for shared, parameter in pairs:
        if torch.equal(shared, parameter.data):
            parameter.data = shared


def can_stack(module: nn.Module) -> bool:
    """Return whether every adapter is plain LoRA over layers that see whole rows."""
    return all(
        isinstance(layer, ModulesToSaveWrapper)
        or (isinstance(layer, Linear | Embedding) and _is_plain(layer))
        for layer in _adapted(module)
    ) and not any(
        isinstance(layer, BaseTunerLayer) and _EXPERTS in name
        for name, layer in module.named_modules()
    )


def _adapted(module: nn.Module) -> list[nn.Module]:
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


def _is_plain(layer: Linear | Embedding) -> bool:
    return not layer.lora_variant and not layer.merged and not any(layer.lora_bias.values())


def _layout(layer: Any, factors: Any) -> Layout:
    return tuple((name, layer.r[name], float(layer.scaling[name])) for name in factors)


def _columns(layout: Layout) -> dict[str, tuple[int, int]]:
    found, start = {}, 0
    for name, rank, _ in layout:
        found[name] = (start, start + rank)
        start += rank
    return found


def _added(base: Tensor, inner: Tensor, up: Tensor) -> Tensor:
    # base: [B, Q, out], inner: [B, Q, R], up: [R, out]
    if base.dtype != up.dtype:
        return base + (inner @ up).to(base.dtype)
    flat = torch.addmm(base.flatten(0, -2), inner.flatten(0, -2), up)
    return flat.view(base.shape)
