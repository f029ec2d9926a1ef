"""One batch of rows going through a model together: catch up, then one token at a time.

Rows are laid side by side so that all end at the same column: row `b` keeps position `p` in
column `p + offset[b]`. Rows of different lengths then differ only in padding on the left, and
rows of equal length need no attention mask at all. Knows nothing of sampling, stop rules or text.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from langgraph_switch.engines.kv import BatchCache, KVRow, empty_columns
from langgraph_switch.engines.memory import row_capacity
from langgraph_switch.engines.stages import Stage, plan_stages

# Bounds the activations and the mask of one pass over a long prompt.
_CHUNK_TOKENS = 1024
# What a pass costs before its first token, in tokens of a large pass; measured on a CPU.
_PASS_TOKENS = defaultdict(lambda: 256, cpu=24)


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A token tried after the prefix, in the same pass: its own branch sees only its ancestors."""

    token_id: int
    parent: int | None
    """Index of the node before it; None for the prefix's last token."""


class RowBatch:
    """The rows of one call and the columns they share."""

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Sequence[KVRow],
        prefixes: Sequence[Sequence[int]],
        *,
        num_new_columns: int,
    ) -> None:
        """Lay the rows side by side.

        Args:
            model: The causal LM.
            rows: What is remembered of each prefix; cropped to it here.
            prefixes: Token ids, at least one each.
            num_new_columns: Columns that will be written behind the prefixes.
        """
        self._model = model
        self._device = model.device
        self._cache_argument = cache_argument(type(model).forward)
        self.rows = list(rows)
        self._prefixes = prefixes
        self._indices = list(range(len(rows)))  # Rows still in the batch.
        self.num_cached = [
            row.crop_to_prefix(prefix) for row, prefix in zip(rows, prefixes, strict=True)
        ]
        self._num_columns = max(len(prefix) for prefix in prefixes)
        self._offsets = [self._num_columns - len(prefix) for prefix in prefixes]
        self._offset = torch.tensor(self._offsets, device=self._device)  # [B]
        self._num_fed = 0
        self._windows = _sliding_windows(model)
        self._cache = self._gather(self._num_columns + num_new_columns)
        self._own = self._own_columns()

    def prefill(self, tree: Sequence[TreeNode] = ()) -> Tensor:
        """Compute what the rows lack, and the tree's nodes behind it.

        Fastest where the rows that lack most come first: then nobody waits in their passes.

        Returns:
            Logits after the prefix and after each node, [B, 1 + nodes, V].
        """
        num_lacking = [len(p) - c for p, c in zip(self._prefixes, self.num_cached, strict=True)]
        for stage in plan_stages(num_lacking, pass_tokens=_PASS_TOKENS[self._device.type]):
            ids, is_new = self._columns(stage, num_lacking)
            start = self._num_columns - stage.num_before
            is_last = stage.num_left == 0
            logits = self._catch_up(ids, start, is_new=is_new, tree=tree if is_last else ())
        return logits

    def _columns(self, stage: Stage, num_lacking: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return a stage's token ids [R, Q], and which of them are new, [R, Q], if not all."""
        width = stage.num_before - stage.num_left
        ids = torch.zeros(stage.num_rows, width, dtype=torch.long)
        first = [min(width, max(0, stage.num_before - n)) for n in num_lacking[: stage.num_rows]]
        for row, begin in enumerate(first):
            prefix = self._prefixes[row]
            end = len(prefix) - stage.num_left
            ids[row, begin:] = torch.tensor(prefix[end - width + begin : end])
        is_new = None
        if any(first):
            is_new = torch.arange(width) >= torch.tensor(first).unsqueeze(1)
            is_new = is_new.to(self._device)
        return ids.to(self._device), is_new

    def step(self, next_ids: Tensor) -> Tensor:
        """Feed one token per row and return the logits after it, [B, V]."""  # next_ids: [B]
        column = self._num_columns + self._num_fed
        positions = column - self._offset.unsqueeze(1)
        self._num_fed += 1
        ids = next_ids.unsqueeze(1)
        return self._forward(ids, column, positions, self._step_masks(column))[:, -1]

    def keep(self, positions: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Drop all rows but those at `positions`; `tokens` is what every row generated."""
        kept = set(positions)
        dropped = [i for i in range(len(self._indices)) if i not in kept]
        self._store(dropped, tokens)
        index = torch.tensor(list(positions), device=self._device)
        self._cache.select(index)
        self._offset = self._offset[index]
        self._offsets = [self._offsets[i] for i in positions]
        self._indices = [self._indices[i] for i in positions]
        self._own = None if self._own is None else self._own[index]

    def store(self, tokens: Sequence[Sequence[int]]) -> None:
        """Leave in every row what was computed for it; `tokens` is what every row generated."""
        self._store(range(len(self._indices)), tokens)

    def _gather(self, capacity: int) -> BatchCache:
        if len(self.rows) == 1:
            row = self.rows[0]
            row.reserve(capacity)
            size = max(row_capacity(capacity), row.capacity)
            return BatchCache(row.layers, capacity=size, batch_size=1)
        known = next((row.layers for row in self.rows if row.layers), [])
        layers = []
        for index, pair in enumerate(known):
            columns = tuple(
                empty_columns(tensor, capacity, batch_size=len(self.rows)) for tensor in pair
            )
            for batch_index, (row, offset, cached) in enumerate(
                zip(self.rows, self._offsets, self.num_cached, strict=True)
            ):
                if cached:
                    for target, source in zip(columns, row.layers[index], strict=True):
                        target[batch_index, :, offset : offset + cached] = source[0, :, :cached]
            layers.append((columns[0], columns[1]))
        return BatchCache(layers, capacity=capacity, batch_size=len(self.rows))

    def _store(self, positions: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        tensors = self._cache.tensors()
        for position in positions:
            index = self._indices[position]
            row, offset = self.rows[index], self._offsets[position]
            fed = list(tokens[index][: self._num_fed])
            old = self.num_cached[index]
            new_ids = [*self._prefixes[index][old:], *fed]
            if len(self.rows) == 1:
                row.layers = tensors
            else:
                _append_columns(row, tensors, position, start=offset + old, count=len(new_ids))
            row.token_ids.extend(new_ids)

    def _catch_up(
        self, ids: Tensor, start: int, *, is_new: Tensor | None, tree: Sequence[TreeNode]
    ) -> Tensor:
        """Compute columns of the first rows' prefixes, and the tree behind them."""
        num_rows, width = ids.shape
        offset = self._offset[:num_rows].unsqueeze(1)
        for begin in range(0, width, _CHUNK_TOKENS):
            end = min(begin + _CHUNK_TOKENS, width)
            nodes = tree if end == width else ()
            columns = torch.arange(start + begin, start + end + len(nodes), device=self._device)
            positions = (columns - offset).clamp_(min=0)
            part, new = ids[:, begin:end], None if is_new is None else is_new[:, begin:end]
            if nodes:
                depths = torch.tensor(_depths(nodes), device=self._device)
                positions[:, end - begin :] = self._num_columns - offset + depths
                node_ids = torch.tensor([node.token_id for node in nodes], device=self._device)
                part = torch.cat([part, node_ids.expand(num_rows, -1)], dim=1)
                if new is not None:
                    new = torch.nn.functional.pad(new, (0, len(nodes)), value=True)
            logits = self._forward(
                part,
                start + begin,
                positions,
                self._prefill_masks(columns, nodes, num_rows),
                is_new=None if new is None else new[:, None, :, None],
                num_logits=1 + len(nodes),
            )
        return logits

    def _forward(
        self,
        ids: Tensor,
        start: int,
        positions: Tensor,
        masks: dict[str, Tensor],
        *,
        is_new: Tensor | None = None,
        num_logits: int = 1,
    ) -> Tensor:
        # ids, positions: [B, Q] -> logits of the last columns: [B, num_logits, V]
        span = self._cache.span
        span.start, span.end, span.is_new = start, start + ids.shape[1], is_new
        span.num_rows = ids.shape[0]
        output = self._model(
            input_ids=ids,
            attention_mask=self._as_argument(masks),
            position_ids=positions,
            use_cache=True,
            logits_to_keep=num_logits,
            **{self._cache_argument: self._cache},
        )
        logits: Tensor = output.logits
        return logits

    def _as_argument(self, masks: dict[str, Tensor]) -> Tensor | dict[str, Tensor] | None:
        if not masks:
            return None
        if self._model.config._attn_implementation == "eager":  # noqa: SLF001
            lowest = torch.finfo(self._model.dtype).min  # Eager attention adds its mask.
            masks = {name: (~mask).to(self._model.dtype) * lowest for name, mask in masks.items()}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _needs_mask(self, window: int | None) -> bool:
        capacity = self._cache.span.capacity
        return any(self._offsets) or (window is not None and capacity > window)

    def _own_columns(self) -> Tensor | None:
        """Return which columns belong to a row, [B, 1, 1, C]; None where no mask is needed."""
        if not any(self._needs_mask(window) for window in self._windows.values()):
            return None
        columns = torch.arange(self._cache.span.capacity, device=self._device)
        return (columns >= self._offset.unsqueeze(1))[:, None, None, :]

    def _step_masks(self, column: int) -> dict[str, Tensor]:
        """Return masks [B, 1, 1, C] for one new token per row."""
        if self._own is None:
            return {}
        own = self._own[..., : column + 1]
        masks = {}
        for name, window in self._windows.items():
            masks[name] = own
            if window is not None and column >= window:
                masks[name] = own.clone()
                masks[name][..., : column + 1 - window] = False
        return masks

    def _prefill_masks(
        self, columns: Tensor, tree: Sequence[TreeNode], num_rows: int
    ) -> dict[str, Tensor]:
        """Return masks [R, 1, Q, C]; none where plain causal attention is meant."""
        start, end = int(columns[0]), int(columns[-1]) + 1
        if start == 0 and not tree and self._own is None:
            return {}
        keys = torch.arange(end, device=self._device)
        query = columns.unsqueeze(1)
        causal = keys <= query  # [Q, C]
        place = query.clone()  # Where the query would stand, were its branch the only one.
        if tree:
            causal[-len(tree) :, self._num_columns :] = _ancestors(tree).to(self._device)
            depths = torch.tensor(_depths(tree), device=self._device)
            place[-len(tree) :] = (self._num_columns + depths).unsqueeze(1)
        own = keys >= self._offset[:num_rows, None, None, None]  # [R, 1, 1, C]
        # A padded query attends to itself, lest its softmax be empty.
        return {
            name: (own & _within(causal, place - keys, window)) | (keys == query)
            for name, window in self._windows.items()
        }


def _within(causal: Tensor, distance: Tensor, window: int | None) -> Tensor:
    return causal if window is None else causal & (distance < window)


def _sliding_windows(model: PreTrainedModel) -> dict[str, int | None]:
    """Return the attention window per kind of layer; None where it is the whole context."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    if not kinds or kinds == {"full_attention"}:
        is_sliding = (
            window is not None and not kinds and getattr(config, "use_sliding_window", True)
        )
        return {"full_attention": window if is_sliding else None}
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


@cache
def cache_argument(forward: Callable[..., Any]) -> str:
    """Return what a model calls its cache: transformers 5.24 renamed the argument."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def _depths(tree: Sequence[TreeNode]) -> list[int]:
    depths: list[int] = []
    for node in tree:
        depths.append(0 if node.parent is None else depths[node.parent] + 1)
    return depths


def _ancestors(tree: Sequence[TreeNode]) -> Tensor:
    """Return which nodes each node sees: itself and those before it on its branch."""
    sees = torch.eye(len(tree), dtype=torch.bool)
    for index, node in enumerate(tree):
        if node.parent is not None:
            sees[index] |= sees[node.parent]
    return sees


def _append_columns(
    row: KVRow, tensors: list[tuple[Tensor, Tensor]], position: int, *, start: int, count: int
) -> None:
    used = len(row.token_ids)
    if row.layers:
        row.reserve(used + count)
    else:
        capacity = row_capacity(used + count)
        row.layers = [
            (
                empty_columns(keys, capacity, batch_size=1),
                empty_columns(values, capacity, batch_size=1),
            )
            for keys, values in tensors
        ]
    for own, batch in zip(row.layers, tensors, strict=True):
        for target, source in zip(own, batch, strict=True):
            target[0, :, used : used + count] = source[position, :, start : start + count]
