"""Eigenvalues of symmetric positive semi-definite matrices, and how many of them mean something."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eigencode._arrays import shared
from eigencode.errors import SpectrumError

Numbers = Tensor | np.ndarray | Sequence[float]

_NEGATIVE = 1e-6
"""Of the largest eigenvalue: a float32 solver's rounding of zero is smaller."""

_ASCENT = 1e-9
"""Relative to an eigenvalue: solvers return them in order, whatever their rounding."""


SMALLEST = 1e-145
"""Squares of activations above this keep all their digits in float64, and so do eigenvalues far below the largest."""

TOO_SMALL = "the squares of these activations, all below 1e-145, underflow float64. Scale the activations up."


def as_numbers(values: Numbers, *, caller: str, what: str, truths: bool = False) -> Tensor:
    """Real numbers as a tensor that shares their memory if it can, without gradients.

    Args:
        values: Tensor, array or list; integers are numbers too.
        caller: What an error message begins with.
        what: What it calls the numbers.
        truths: Whether truth values are numbers too.

    Returns:
        Tensor of any real type.

    Raises:
        SpectrumError: no numbers, complex ones, truth values, or an array with masked entries.
    """
    if np.ma.isMaskedArray(values):
        masked = int(np.ma.getmaskarray(values).sum())
        if masked:
            raise SpectrumError(f"{caller}: {what} must not be masked; got {masked} masked entries. Fill them or leave them out.")
        values = np.ma.getdata(values)
    try:
        given = np.asarray(values) if isinstance(values, Sequence) else values
        tensor = (shared(given) if isinstance(given, np.ndarray) else torch.as_tensor(given)).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise SpectrumError(f"{caller}: {what} must be an array of real numbers; got {kind}. Pass float64.") from None
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "on the meta device, without numbers" if tensor.is_meta else f"of layout {tensor.layout}"
        raise SpectrumError(f"{caller}: {what} must be a dense array; got a tensor {kind}. Pass numbers.")
    if tensor.is_complex() or (tensor.dtype == torch.bool and not truths):
        raise SpectrumError(f"{caller}: {what} must be real numbers; got {tensor.dtype}. Pass float64.")
    return tensor


def checked_eigenvalues(eigenvalues: Numbers, *, caller: str, signed: bool = False, ordered: bool = True) -> Float[Tensor, " k"]:
    """Eigenvalues in float64 on the CPU, if they can be those of a covariance matrix.

    Args:
        eigenvalues: Shape (k,).
        caller: What an error message begins with.
        signed: Whether they may be negative and in any order, as those of cross-validated PCA.
        ordered: Whether the largest must come first.

    Returns:
        The same numbers.

    Raises:
        SpectrumError: none, not real numbers in one dimension, not finite, negative beyond rounding, or not in order.
    """
    values = as_numbers(eigenvalues, caller=caller, what="`eigenvalues`").to("cpu", torch.float64)
    if values.ndim != 1 or len(values) == 0:
        raise SpectrumError(
            f"{caller}: `eigenvalues` must have shape (k,) with k of at least 1; got {tuple(values.shape)}. Pass one spectrum."
        )
    bad = (~torch.isfinite(values)).nonzero()[:, 0]
    if len(bad):
        raise SpectrumError(
            f"{caller}: `eigenvalues` must be finite; got {len(bad)} NaN or infinite, the first at rank {int(bad[0]) + 1}. "
            "Check the activations."
        )
    if signed:
        return values
    largest, smallest = float(values.max()), float(values.min())
    if smallest < -_NEGATIVE * abs(largest):
        raise SpectrumError(
            f"{caller}: `eigenvalues` of a covariance matrix must not be negative; got {smallest:.3g} at rank "
            f"{int(values.argmin()) + 1}. Pass variances."
        )
    rises = (values[1:] > values[:-1] * (1 + _ASCENT) + torch.finfo(torch.float64).eps * largest).nonzero()[:, 0]
    if ordered and len(rises):
        rank = int(rises[0]) + 2
        raise SpectrumError(
            f"{caller}: `eigenvalues` must come largest first; got {float(values[rank - 1]):.3g} at rank {rank} after "
            f"{float(values[rank - 2]):.3g}. Sort them."
        )
    return values


def share_of_first(eigenvalues: Float[Tensor, " k"], k: int, *, name: str) -> float:
    """Share of the summed eigenvalues in the first k.

    Args:
        eigenvalues: Largest first.
        k: Number of components, at least 1.
        name: What an error message calls the code.

    Returns:
        Dimensionless.

    Raises:
        SpectrumError: k is not a whole number of at least 1, or the sum is not positive.
    """
    total = float(eigenvalues.sum())
    if not 1 <= k < float("inf") or k != int(k):
        raise SpectrumError(f"{name}: variance_explained needs a whole number `k` of at least 1; got {k}.")
    if total <= 0:
        raise SpectrumError(f"{name}: the share of the variance is undefined, since the eigenvalues sum to {total:.3g}.")
    return float(eigenvalues[: int(k)].sum()) / total


def descending_eigenvalues(matrix: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """All eigenvalues of a symmetric positive semi-definite matrix, largest first, on the CPU.

    Values that rounding made negative are returned as zero.

    Args:
        matrix: Symmetric, shape (k, k), float64 for a measurement.

    Returns:
        Eigenvalues, shape (k,), in the units of the matrix.

    Raises:
        SpectrumError: the matrix is not finite, since squares of the activations overflow, or underflow.
    """
    lowest, largest = (float(value) for value in torch.aminmax(matrix))  # makes no copy of the matrix, as isfinite does
    if not math.isfinite(lowest + largest):
        raise SpectrumError("eigenvalues: squares of these activations exceed float64 (above 1e150). Divide the activations.")
    if 0 < largest < SMALLEST**2:
        raise SpectrumError(f"eigenvalues: {TOO_SMALL}")
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


def positive_run(values: Float[Tensor, " k"]) -> tuple[int, int]:
    """First and last rank of the run of values above 0 that has the largest sum; (1, 0) if there is none."""
    places = (values > 0).nonzero().flatten()
    if not len(places):
        return 1, 0
    _, runs, lengths = (places - torch.arange(len(places), device=places.device)).unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(lengths), dtype=values.dtype, device=values.device).index_add_(0, runs, values[places])
    best = int(sums.argmax())
    first = int(places[int(lengths[:best].sum())]) + 1
    return first, first + int(lengths[best]) - 1
