"""A few rows times a packed weight: from one to sixteen, at the speed at which memory is read.

oneDNN's order is columns in blocks of 64, each block [in, 64]. OpenBLAS, which numpy brings along,
has kernels for such small products that read a block once and ahead of time: twice as fast as MKL
and oneDNN with one row, and no slower up to sixteen (`benchmarks/LOG.md`). They run in the calling
thread alone, so they serve where torch has one thread or two. Both read the same memory.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

_WIDTH = 64
_MAX_ROWS = {1: 16, 2: 4}
"""By threads of torch; more of them read memory faster together than one by itself."""
_MAX_PRODUCT = 100**3
"""Rows x inputs x width from which OpenBLAS has no small kernel; and then it is slow."""


class WeightBlocks:
    """A packed weight as oneDNN laid it out, read in place."""

    def __init__(self, matrix: Tensor, blocks: np.ndarray[Any, Any], out_features: int) -> None:
        self._matrix = matrix  # Owns the memory.
        self._blocks = blocks  # [blocks, in, 64]
        self._num_in, self._num_out = int(blocks.shape[1]), out_features

    @classmethod
    def of(cls, matrix: Tensor, weight: Tensor) -> Self | None:
        """Return the blocks of a packed matrix; None where they do not pay or look otherwise.

        Args:
            matrix: The weight in oneDNN's order.
            weight: The same in the plain order, [out, in].
        """
        if not _has_small_kernels():
            return None
        num_out, num_in = weight.shape
        shape = (math.ceil(num_out / _WIDTH), num_in, _WIDTH)
        if torch.ops.mkldnn._nbytes(matrix) != math.prod(shape) * weight.itemsize:  # noqa: SLF001
            return None
        address = torch.ops.mkldnn.data_ptr(matrix)
        memory = (ctypes.c_float * math.prod(shape)).from_address(address)
        blocks = np.ctypeslib.as_array(memory).reshape(shape)
        # The order is oneDNN's own affair: another one shows in the first and last columns.
        for column in {0, 1, num_out // 2, num_out - 1}:
            held = blocks[column // _WIDTH, :, column % _WIDTH]
            if not np.array_equal(held, weight[column].numpy()):
                return None
        return cls(matrix, blocks, num_out)

    def can_serve(self, x: Tensor) -> bool:
        """Return whether these are few enough rows for the threads that torch has."""
        num_rows = x.numel() // self._num_in
        return 0 < num_rows <= _MAX_ROWS.get(torch.get_num_threads(), 0)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x @ weight.T + bias, [..., out] of [..., in]."""
        *shape, num_in = x.shape
        rows = x.detach().numpy().reshape(-1, num_in)
        num_rows = len(rows)
        if num_rows % 2:  # The kernels take rows by twos and fours: one alone is slower.
            rows = np.concatenate((rows, rows[-1:]))
        products = self._products(rows)
        columns = products.transpose(1, 0, 2)[:num_rows].reshape(num_rows, -1)
        product = torch.from_numpy(columns[:, : self._num_out]).reshape(*shape, -1)
        return product if bias is None else product.add_(bias)

    def _products(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the products with every block, [blocks, rows, 64], in parts that are small."""
        num_rows, num_in = rows.shape
        num_parts = math.ceil(num_rows * num_in * _WIDTH / _MAX_PRODUCT)
        step = math.ceil(num_in / num_parts)
        products: np.ndarray[Any, Any] = np.matmul(rows[:, :step], self._blocks[:, :step])
        for start in range(step, num_in, step):
            part = slice(start, start + step)
            products += np.matmul(rows[:, part], self._blocks[:, part])
        return products

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the plain weight's rows, [..., in] of [...].

        Raises:
            IndexError: There is no such row.
        """
        wanted = ids.numpy()
        if ((wanted < 0) | (wanted >= self._num_out)).any():
            raise IndexError(f"index out of range: the weight has {self._num_out} rows")
        block, column = np.divmod(wanted, _WIDTH)
        return torch.from_numpy(self._blocks[block, :, column])


def serves_few_rows() -> bool:
    """Return whether blocks would be used here: numpy has the kernels, and torch few threads."""
    return torch.get_num_threads() in _MAX_ROWS and _has_small_kernels()


@cache
def _has_small_kernels() -> bool:
    """Return whether numpy multiplies by OpenBLAS on a processor that it has the kernels for."""
    names = ("data_ptr", "_nbytes")
    if not all(hasattr(torch.ops.mkldnn, one) for one in names):
        return False
    built_with: Any = np.show_config(mode="dicts")
    blas = built_with.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    return "openblas" in blas and torch.backends.cpu.get_cpu_capability() == "AVX512"
