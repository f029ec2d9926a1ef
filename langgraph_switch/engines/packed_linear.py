"""Weights in the order in which a CPU reads them best: a few rows cost little more than one.

torch multiplies float32 by MKL, which on many processors reads a matrix anew for every row of a
small batch. oneDNN, given the matrix in an order of its own beforehand, reads it once: two to four
times as fast from 2 to 8 rows, never slower from 1 MiB on (`benchmarks/LOG.md`). It is what
torch.compile does with frozen weights, without compiling. Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_MIN_BYTES = 2**20
"""Below, calling oneDNN costs more than it saves."""
_TOLERANCE = 1e-4


class PackedLinear(nn.Module):
    """A linear layer whose weight is held in oneDNN's order alone.

    One whose weight is somebody else's too, an embedding's, say, stays as it is, so that nothing is
    held twice; oneDNN then reads it in the plain order.
    """

    def __init__(self, linear: nn.Linear, *, is_tied: bool = False) -> None:
        """Take a layer over; unless it is tied, its own weight is emptied until `unpacked`."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._is_tied = is_tied
        self._linear = (linear,)  # In a tuple: no submodule, it is out of use.
        weight = linear.weight.detach()
        self._matrix: Tensor = weight if is_tied else _ops()._reorder_linear_weight(weight)  # noqa: SLF001
        if not is_tied:
            linear.weight.data = weight.new_empty(0)

    @property
    def weight(self) -> Tensor:
        """The weight in the plain order, [out, in]; a copy, unless it is tied."""
        return self._matrix if self._is_tied else self._matrix.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] of [..., in]."""
        result: Tensor = _ops()._linear_pointwise(x, self._matrix, self.bias, "none", [], "")  # noqa: SLF001
        return result

    def unpacked(self) -> nn.Linear:
        """Return the layer as it was."""
        (linear,) = self._linear
        if not self._is_tied:
            linear.weight.data = self.weight
        return linear


def pack_linears(module: nn.Module) -> None:
    """Pack the large float32 layers of a module that is on the CPU and that nobody else uses.

    What an adapter brings along stays as it is. Does nothing where torch lacks oneDNN, or is told
    not to use it (`torch.backends.mkldnn.flags(enabled=False)`).
    """
    if not is_packing_possible():
        return
    holders = Counter(one.data_ptr() for one in _parameters(module))
    with torch.inference_mode(mode=False), torch.no_grad():
        for parent, name, layer in list(_children(module)):
            if type(layer) is nn.Linear and _is_worth_it(layer):
                is_tied = holders[layer.weight.data_ptr()] > 1
                setattr(parent, name, PackedLinear(layer, is_tied=is_tied))


def unpack_linears(module: nn.Module) -> None:
    """Undo `pack_linears`."""
    with torch.inference_mode(mode=False), torch.no_grad():
        for parent, name, layer in list(_children(module)):
            if isinstance(layer, PackedLinear):
                setattr(parent, name, layer.unpacked())


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
    return is_plain and weight.nbytes >= _MIN_BYTES


def _children(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield every layer with its parent and name, but not what adapters keep by their names."""
    for parent in module.modules():
        if not isinstance(parent, nn.ModuleDict):
            for name, layer in parent.named_children():
                yield parent, name, layer


def _parameters(module: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters of every layer, tied ones as often as they are used."""
    for layer in module.modules():
        yield from layer.parameters(recurse=False)
