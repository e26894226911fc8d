"""Eigenvalues of symmetric positive semi-definite matrices, and how many of them mean something."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def descending_eigenvalues(matrix: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """All eigenvalues of a symmetric positive semi-definite matrix, largest first, on the CPU.

    Values that rounding made negative are returned as zero.

    Args:
        matrix: Symmetric, shape (k, k), float64 for a measurement.

    Returns:
        Eigenvalues, shape (k,), in the units of the matrix.
    """
    ascending: Tensor = torch.linalg.eigvalsh(matrix)
    return ascending.flip(0).clamp_min(0).cpu()


def numerical_floor(largest: float, *, n_samples: int, n_features: int, dtype: torch.dtype = torch.float64) -> float:
    """Size below which an eigenvalue is rounding error.

    largest * max(max(n, f) * 2^-52, eps(dtype)^2): the rounding of the float64 eigen-decomposition, or that of the
    activations themselves where they were computed in half precision.

    Args:
        largest: Largest eigenvalue, in squared activation units.
        n_samples: Number of samples n.
        n_features: Number of units f.
        dtype: Type in which the activations were computed.

    Returns:
        Floor in squared activation units.
    """
    solver = max(n_samples, n_features) * torch.finfo(torch.float64).eps
    return float(largest) * max(solver, torch.finfo(dtype).eps ** 2)


def numerical_rank(eigenvalues: Float[Tensor, " k"], *, floor: float, n_samples: int) -> int:
    """Number of eigenvalues above the numerical floor, at most n - 1 because the mean was removed."""
    return min(int((eigenvalues > floor).sum()), max(n_samples - 1, 0))
