"""Keys and values: the rows an engine remembers, and the batch a forward pass works on.

A row holds one trace's keys and values; a batch lays rows side by side, each ending at the same
column, so that one forward pass extends all of them. Knows nothing of sampling or text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_GROWTH_TOKENS = 64


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

    def crop_to_prefix(self, prefix: Sequence[int]) -> int:
        """Forget what does not begin `prefix`; return how many tokens are left.

        At least the last token of `prefix` is left to compute: its logits are wanted.
        """
        known = self.token_ids
        num_common = min(len(known), len(prefix) - 1)
        if known[:num_common] != list(prefix[:num_common]):
            pairs = zip(known, prefix, strict=False)
            num_common = next(i for i, (a, b) in enumerate(pairs) if a != b)
        del known[num_common:]
        return num_common

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` in all, keeping what is there."""
        if not self.layers or self.capacity >= num_tokens:
            return
        capacity = max(num_tokens, self.capacity + self.capacity // 2) + _GROWTH_TOKENS
        used = len(self.token_ids)
        for index, (keys, values) in enumerate(self.layers):
            self.layers[index] = (_grown(keys, used, capacity), _grown(values, used, capacity))

    def fork(self) -> KVRow:
        """Return a copy that can go its own way."""
        layers = [(keys.clone(), values.clone()) for keys, values in self.layers]
        return KVRow(token_ids=list(self.token_ids), layers=layers)


def _grown(tensor: Tensor, used: int, capacity: int) -> Tensor:
    grown = tensor.new_zeros((*tensor.shape[:2], capacity, tensor.shape[3]))
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


class BatchCache(Cache):
    """The keys and values of one batch, in the shape that transformers' models expect.

    Column `c` of row `b` holds position `c - offset[b]`: every row ends at the same column.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__(layers=[BatchLayer() for _ in range(num_layers)])
        self.end = 0  # Columns in use.
        self.capacity = 0
        self.is_new: Tensor | None = None
        # is_new: [B, 1, Q, 1] bool, which of the columns now written belong to the row; None: all.

    def write_next(self, num_columns: int, is_new: Tensor | None = None) -> None:
        """Announce the next forward pass: it writes `num_columns` columns behind the last."""
        self.end += num_columns
        self.is_new = is_new
        for layer in self.layers:
            layer.start, layer.end = self.end - num_columns, self.end
            layer.capacity, layer.is_new = self.capacity, is_new

    def select(self, rows: Tensor) -> None:
        """Keep only some rows."""
        for layer in self.layers:
            if layer.keys is not None:
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]


class BatchLayer(CacheLayerMixin):
    """One layer of a `BatchCache`; writes in place, returns views."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.start = self.end = self.capacity = 0
        self.is_new: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the batch's columns in the model's own dtype and device."""
        self.keys = _columns(key_states, self.capacity)
        self.values = _columns(value_states, self.capacity)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new columns and return all columns so far."""
        # key_states, value_states: [B, H, Q, D]
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        new_keys = self.keys[:, :, self.start : self.end]
        new_values = self.values[:, :, self.start : self.end]
        if self.is_new is not None:
            key_states = torch.where(self.is_new, key_states, new_keys)
            value_states = torch.where(self.is_new, value_states, new_values)
        new_keys.copy_(key_states)
        new_values.copy_(value_states)
        return self.keys[:, :, : self.end], self.values[:, :, : self.end]

    def get_seq_length(self) -> int:
        """Return the number of columns before the pass that is announced."""
        return self.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many columns a mask has, and the first one."""
        return self.start + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: this cache is as long as its batch needs."""
        return -1


def _columns(states: Tensor, capacity: int) -> Tensor:
    batch, heads, _, dim = states.shape
    return states.new_zeros((batch, heads, capacity, dim))
