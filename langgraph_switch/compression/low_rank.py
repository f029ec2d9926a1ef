"""A matrix as the product of two narrow ones, as narrow as an error bound allows.

Knows nothing of models or layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Directions that calibration never saw still count a little: other inputs will use them.
_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Factors:
    """`up @ down` is close to a matrix."""

    down: Tensor  # [r, in]
    up: Tensor  # [out, r]
    error: float
    """What is left out, relative to the whole: of the matrix, or of what it does to its inputs."""

    @property
    def rank(self) -> int:
        """Columns of `up`."""
        return self.up.shape[1]


def factorize(matrix: Tensor, *, error: float, moment: Tensor | None = None) -> Factors:
    """Return the narrowest factors whose relative error is within a bound.

    Args:
        matrix: [out, in].
        error: Most of the Frobenius norm, relative, that may be left out.
        moment: Second moment of the inputs, [in, in]: the error is then that of the outputs over
            such inputs, and the rank is spent on directions that inputs have.
    """
    root, inverse = _roots(moment, matrix.device)
    exact = matrix.double()
    weighted = exact if root is None else exact @ root
    left, values, right = torch.linalg.svd(weighted, full_matrices=False)
    squares = values.square()
    total = squares.sum().clamp(min=torch.finfo(squares.dtype).tiny)
    left_out = (squares.flip(0).cumsum(0).flip(0) / total).sqrt()  # [k]: if cut before k
    rank = int((left_out > error).sum())
    scale = values[:rank].sqrt()
    down = scale.unsqueeze(1) * right[:rank]
    if inverse is not None:
        down = down @ inverse
    left_at_cut = float(left_out[rank]) if rank < len(values) else 0.0
    return Factors(down.to(matrix.dtype), (left[:, :rank] * scale).to(matrix.dtype), left_at_cut)


def _roots(moment: Tensor | None, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Return the symmetric square root of a normalised moment, and its inverse."""
    if moment is None:
        return None, None
    normal = moment.to(device).double()
    size = normal.shape[0]
    normal = normal * (size / normal.trace()) + _FLOOR * torch.eye(size, device=device)
    values, vectors = torch.linalg.eigh(normal)
    scale = values.clamp(min=_FLOOR / 2).sqrt()
    return (vectors * scale) @ vectors.T, (vectors / scale) @ vectors.T
