"""Keys and values: the rows an engine remembers, and the cache that a forward pass writes.

Knows nothing of prompts, sampling or text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from langgraph_switch.engines.memory import row_capacity


@dataclass(slots=True)
class KVRow:
    """What a model computed for one token prefix."""

    token_ids: list[int] = field(default_factory=list)
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    # layers: per layer keys and values, [1, H, capacity, D]; the first len(token_ids) count.

    @property
    def num_bytes(self) -> int:
        """Bytes held, unused capacity included."""
        return sum(k.nbytes + v.nbytes for k, v in self.layers)

    @property
    def capacity(self) -> int:
        """Tokens that fit without a new allocation."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def num_shared(self, prefix: Sequence[int]) -> int:
        """Return how many tokens of `prefix` need not be computed again.

        At least its last token does: its logits are wanted.
        """
        known = self.token_ids
        num_common = min(len(known), len(prefix) - 1)
        if known[:num_common] != list(prefix[:num_common]):
            pairs = zip(known, prefix, strict=False)
            num_common = next(i for i, (a, b) in enumerate(pairs) if a != b)
        return num_common

    def crop_to_prefix(self, prefix: Sequence[int]) -> int:
        """Forget what does not begin `prefix`; return how many tokens are left."""
        num_common = self.num_shared(prefix)
        del self.token_ids[num_common:]
        return num_common

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` in all, keeping what is there."""
        if not self.layers or self.capacity >= num_tokens:
            return
        capacity = row_capacity(num_tokens)
        used = len(self.token_ids)
        for index, (keys, values) in enumerate(self.layers):
            self.layers[index] = (_grown(keys, used, capacity), _grown(values, used, capacity))

    def fork(self) -> KVRow:
        """Return a copy that can go its own way."""
        layers = [(keys.clone(), values.clone()) for keys, values in self.layers]
        return KVRow(token_ids=list(self.token_ids), layers=layers)


def _grown(tensor: Tensor, used: int, capacity: int) -> Tensor:
    grown = empty_columns(tensor, capacity)
    grown[:, :, :used] = tensor[:, :, :used]
    return grown


class KVStore:
    """Rows by name within a byte budget; the least recently used go first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._rows: OrderedDict[str, KVRow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return sum(row.num_bytes for row in self._rows.values())

    def take(self, name: str, *, fork_of: str | None = None) -> KVRow:
        """Remove and return a row: itself, a copy of the row to fork, or an empty one."""
        row = self._rows.pop(name, None)
        if row is not None:
            return row
        parent = self._rows.get(fork_of) if fork_of is not None else None
        return parent.fork() if parent is not None else KVRow()

    def num_shared(self, name: str, prefix: Sequence[int], *, fork_of: str | None = None) -> int:
        """Return how many tokens of a prefix the row has that `take` would return."""
        row = self._rows.get(name) or self._rows.get(fork_of or "")
        return 0 if row is None else row.num_shared(prefix)

    def put(self, name: str, row: KVRow) -> None:
        """Keep a row as the most recently used, and evict others until the budget holds."""
        self._rows[name] = row
        self._rows.move_to_end(name)
        excess = self.num_bytes - self.max_bytes
        while excess > 0 and self._rows:
            _, evicted = self._rows.popitem(last=False)
            excess -= evicted.num_bytes

    def release(self, names: Iterable[str]) -> None:
        """Forget rows; unknown names are ignored."""
        for name in names:
            self._rows.pop(name, None)

    def clear(self) -> None:
        """Forget every row."""
        self._rows.clear()


@dataclass(slots=True)
class Span:
    """What the next forward pass writes; shared by all layers of a batch."""

    capacity: int
    batch_size: int
    start: int = 0
    end: int = 0
    num_rows: int = 0
    """The first rows of the batch take part in the pass."""
    is_new: Tensor | None = None
    # is_new: [num_rows, 1, Q, 1] bool, which columns belong to the row; None: all of them.


class BatchCache(Cache):
    """The keys and values of one batch, in the shape that transformers' models expect."""

    def __init__(
        self, layers: list[tuple[Tensor, Tensor]], *, capacity: int, batch_size: int
    ) -> None:
        """Start from columns that are filled; without layers the first pass allocates them."""
        self.span = Span(capacity=capacity, batch_size=batch_size)
        make_layer: Any = partial(BatchLayer, self.span)
        super().__init__(layer_class_to_replicate=make_layer)
        self.layers = [BatchLayer(self.span, keys, values) for keys, values in layers]

    @property
    def _own_layers(self) -> list[BatchLayer]:
        return cast("list[BatchLayer]", self.layers)

    def tensors(self) -> list[tuple[Tensor, Tensor]]:
        """Return every layer's keys and values, [B, H, capacity, D]."""
        return [layer.tensors() for layer in self._own_layers]

    def select(self, rows: Tensor) -> None:
        """Keep only some rows."""
        self.span.batch_size = len(rows)
        for layer in self._own_layers:
            keys, values = layer.tensors()
            layer.keys, layer.values = keys[rows], values[rows]


class BatchLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of a `BatchCache`; writes in place, returns views."""

    is_sliding = False

    def __init__(
        self, span: Span, keys: Tensor | None = None, values: Tensor | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.span = span
        self.keys, self.values = keys, values
        self.is_initialized = keys is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the batch's columns in the model's own dtype and device."""
        size, capacity = self.span.batch_size, self.span.capacity
        self.keys = empty_columns(key_states, capacity, batch_size=size)
        self.values = empty_columns(value_states, capacity, batch_size=size)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new columns and return all columns so far."""
        # key_states, value_states: [num_rows, H, Q, D]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span = self.span
        keys, values = self.tensors()
        if span.num_rows < span.batch_size:
            keys, values = keys[: span.num_rows], values[: span.num_rows]
        new_keys = keys[:, :, span.start : span.end]
        new_values = values[:, :, span.start : span.end]
        if span.is_new is not None:
            key_states = torch.where(span.is_new, key_states, new_keys)
            value_states = torch.where(span.is_new, value_states, new_values)
        new_keys.copy_(key_states)
        new_values.copy_(value_states)
        return keys[:, :, : span.end], values[:, :, : span.end]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, [B, H, capacity, D] each."""
        return cast("tuple[Tensor, Tensor]", (self.keys, self.values))

    def get_seq_length(self) -> int:
        """Return the number of columns before those that the pass writes."""
        return self.span.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many columns a mask has, and the first one."""
        return self.span.start + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: this cache is as long as its batch needs."""
        return -1


def empty_columns(like: Tensor, capacity: int, *, batch_size: int | None = None) -> Tensor:
    """Return zeroed columns for keys or values shaped like `like`, [B, H, *, D]."""
    batch, heads, _, dim = like.shape
    return like.new_zeros((batch_size or batch, heads, capacity, dim))
