"""Weights in the order in which a CPU reads them best: a few rows cost little more than one.

torch multiplies float32 by MKL, which on many processors reads a matrix anew for every row of a
small batch. oneDNN, given the matrix in an order of its own beforehand, reads it once: two to four
times as fast from 2 to 8 rows, never slower from 1 MiB on (`benchmarks/LOG.md`). It is what
torch.compile does with frozen weights, without compiling. Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from langgraph_switch.engines.few_rows import WeightBlocks, serves_few_rows

_MIN_BYTES = 2**20
"""Below, calling oneDNN costs more than it saves."""
_MIN_BYTES_FEW_ROWS = 2**18
"""The same where a few rows need not call it."""
_TOLERANCE = 1e-4

_Child: TypeAlias = tuple[nn.Module, str, nn.Module]
"""A layer's parent, its name there, and the layer."""


class PackedLinear(nn.Module):
    """A linear layer whose weight is held in oneDNN's order alone.

    One whose weight is somebody else's too stays as it is, so that nothing is held twice; oneDNN
    then reads it in the plain order.
    """

    def __init__(self, linear: nn.Linear, *, is_shared: bool = False) -> None:
        """Take a layer over; unless it is shared, its own weight is emptied until `unpacked`."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._is_shared = is_shared
        self._linear = (linear,)  # In a tuple: no submodule, it is out of use.
        weight = linear.weight.detach()
        self._matrix: Tensor = weight if is_shared else _ops()._reorder_linear_weight(weight)  # noqa: SLF001
        self.blocks = None if is_shared else WeightBlocks.of(self._matrix, weight)
        """For a few rows; None where they are no faster by themselves."""
        if not is_shared:
            linear.weight.data = weight.new_empty(0)

    @property
    def weight(self) -> Tensor:
        """The weight in the plain order, [out, in]; a copy, unless it is shared."""
        return self._matrix if self._is_shared else self._matrix.to_dense()

    @property
    def storage(self) -> tuple[int, int]:
        """What tells the memory that holds the weight from any other, and its bytes."""
        if self._is_shared:
            whole = self._matrix.untyped_storage()
            return whole.data_ptr(), whole.nbytes()
        return id(self), self.in_features * self.out_features * self._matrix.element_size()

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] of [..., in]."""
        if self.blocks is not None and self.blocks.can_serve(x):
            return self.blocks.product(x, self.bias)
        result: Tensor = _ops()._linear_pointwise(x, self._matrix, self.bias, "none", [], "")  # noqa: SLF001
        return result

    def unpacked(self) -> nn.Linear:
        """Return the layer as it was."""
        (linear,) = self._linear
        if not self._is_shared:
            linear.weight.data = self.weight
        return linear


class PackedEmbedding(nn.Module):
    """An embedding whose weight is the output layer's, where that one is packed."""

    def __init__(self, embedding: nn.Embedding, head: PackedLinear, blocks: WeightBlocks) -> None:
        super().__init__()
        self._embedding, self._head = (embedding,), (head,)  # In tuples: no submodules.
        self._blocks = blocks

    @property
    def weight(self) -> Tensor:
        """A copy of the weight in the plain order, [vocabulary, out]."""
        return self._head[0].weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return [..., out] of [...]."""
        return self._blocks.look_up(ids)

    def unpacked(self) -> nn.Embedding:
        """Return the layer, which has its weight back once the output layer has."""
        return self._embedding[0]


def pack_linears(module: nn.Module) -> None:
    """Pack the large float32 layers of a module that is on the CPU and that nobody else uses.

    What an adapter brings along stays as it is. Does nothing where torch lacks oneDNN, or is told
    not to use it (`torch.backends.mkldnn.flags(enabled=False)`).
    """
    if not is_packing_possible():
        return
    holders = Counter(one.data_ptr() for one in _parameters(module))
    children = list(_children(module))
    with torch.inference_mode(mode=False), torch.no_grad():
        for parent, name, layer in children:
            if type(layer) is nn.Linear and _is_worth_it(layer):
                num_others = holders[layer.weight.data_ptr()] - 1
                embedding = _embedding_that_shares(layer, children) if num_others == 1 else None
                packed = None if embedding is None else _packed_with(embedding, layer)
                setattr(parent, name, packed or PackedLinear(layer, is_shared=num_others > 0))


def unpack_linears(module: nn.Module) -> None:
    """Undo `pack_linears`."""
    with torch.inference_mode(mode=False), torch.no_grad():
        for parent, name, layer in list(_children(module)):
            if isinstance(layer, PackedLinear | PackedEmbedding):
                setattr(parent, name, layer.unpacked())


def weight_storages(module: nn.Module) -> dict[int, int]:
    """Return the bytes of all memory that holds a module's weights, by what holds them."""
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in module.parameters()
    }
    packed = (one for one in module.modules() if isinstance(one, PackedLinear))
    return storages | dict(one.storage for one in packed)


def is_packing_possible() -> bool:
    """Return whether torch has oneDNN here, may use it, and computes with it what it should."""
    return bool(torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()) and _works()  # noqa: SLF001 - there is no public one


@cache
def _works() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise")
    if not all(hasattr(_ops(), one) for one in names):
        return False
    with torch.inference_mode(mode=False), torch.no_grad():
        generator = torch.Generator().manual_seed(0)  # The caller's random numbers stay theirs.
        linear = nn.Linear(64, 96, device="meta").to_empty(device="cpu")
        for one in linear.parameters():
            one.copy_(torch.randn(one.shape, generator=generator))
        x = torch.randn(2, 3, 64, generator=generator)
        expected = functional.linear(x, linear.weight.clone(), linear.bias)
        return torch.allclose(PackedLinear(linear)(x), expected, atol=_TOLERANCE)


def _ops() -> Any:
    return torch.ops.mkldnn


def _is_worth_it(layer: nn.Linear) -> bool:
    weight = layer.weight
    is_plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
    min_bytes = _MIN_BYTES_FEW_ROWS if serves_few_rows() else _MIN_BYTES
    return is_plain and weight.nbytes >= min_bytes


def _embedding_that_shares(
    linear: nn.Linear, children: Sequence[_Child]
) -> tuple[nn.Module, str, nn.Embedding] | None:
    """Return the plain embedding that is the one other user of a layer's weight, if it is one."""
    found = [
        (parent, name, one)
        for parent, name, one in children
        if one is not linear and any(own is linear.weight for own in one.parameters(recurse=False))
    ]
    if len(found) != 1:
        return None
    ((parent, name, embedding),) = found
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None:
        return None
    return None if name == "base_layer" else (parent, name, embedding)  # An adapter's needs more.


def _packed_with(
    child: tuple[nn.Module, str, nn.Embedding], linear: nn.Linear
) -> PackedLinear | None:
    """Pack a layer and the embedding that shares its weight; None where that one cannot read it."""
    packed = PackedLinear(linear)
    if packed.blocks is None:
        packed.unpacked()
        return None
    parent, name, embedding = child
    setattr(parent, name, PackedEmbedding(embedding, packed, packed.blocks))
    return packed


def _children(module: nn.Module) -> Iterator[_Child]:
    """Yield every layer with its parent and name, but not what adapters keep by their names."""
    for parent in module.modules():
        if not isinstance(parent, nn.ModuleDict):
            for name, layer in parent.named_children():
                yield parent, name, layer


def _parameters(module: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters of every layer, tied ones as often as they are used."""
    for layer in module.modules():
        yield from layer.parameters(recurse=False)
