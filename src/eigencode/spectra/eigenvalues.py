"""Eigenvalues of symmetric positive semi-definite matrices, and how many of them mean something."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from eigencode.errors import SpectrumError


def descending_eigenvalues(matrix: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """All eigenvalues of a symmetric positive semi-definite matrix, largest first, on the CPU.

    Values that rounding made negative are returned as zero.

    Args:
        matrix: Symmetric, shape (k, k), float64 for a measurement.

    Returns:
        Eigenvalues, shape (k,), in the units of the matrix.

    Raises:
        SpectrumError: the matrix is not finite, since squares of the activations overflow.
    """
    if not bool(torch.stack(torch.aminmax(matrix)).isfinite().all()):  # makes no copy of the matrix, as isfinite does
        raise SpectrumError("eigenvalues: squares of these activations exceed float64 (above 1e150). Divide the activations.")
    ascending: Tensor = torch.linalg.eigvalsh(matrix)
    return ascending.flip(0).clamp_min(0).cpu()


def eigenpairs(matrix: Float[Tensor, "k k"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k k"]]:
    """Eigenvalues of a symmetric positive semi-definite matrix, largest first, and their eigenvectors as columns."""
    ascending, vectors = torch.linalg.eigh(matrix)
    return ascending.flip(0).clamp_min(0), vectors.flip(1)


def numerical_floor(
    largest: float, *, n_samples: int, n_features: int, scale: float = 0.0, dtype: torch.dtype = torch.float64
) -> float:
    """Size below which an eigenvalue is rounding error.

    The larger of largest * max(n, f) * 2^-52, the rounding of the float64 eigen-decomposition, and (eps(dtype) * scale)^2,
    that of the activations as they were computed.

    Args:
        largest: Largest eigenvalue, in squared activation units.
        n_samples: Number of samples n.
        n_features: Number of units f.
        scale: Magnitude of the activations, mean included.
        dtype: Type in which the activations were computed.

    Returns:
        Floor in squared activation units.
    """
    solver = max(n_samples, n_features) * torch.finfo(torch.float64).eps
    return max(float(largest) * solver, (torch.finfo(dtype).eps * scale) ** 2)


def numerical_rank(eigenvalues: Float[Tensor, " k"], *, floor: float, n_samples: int) -> int:
    """Number of leading eigenvalues above the numerical floor, at most n - 1 because the mean was removed."""
    return min(int((eigenvalues > floor).long().cumprod(0).sum()), max(n_samples - 1, 0))
