"""Effective ranks: how many directions a code uses, by the entropy of its spectrum or by its largest eigenvalue."""

from __future__ import annotations

import math
from typing import Literal

import torch

from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.eigenvalues import Numbers, as_numbers, checked_eigenvalues

Of = Literal["eigenvalues", "singular values"]

RANKME_EPSILON = 1e-7
"""What Garrido et al. add to each share."""


def _positive(eigenvalues: Numbers, caller: str) -> torch.Tensor:
    values = checked_eigenvalues(eigenvalues, caller=caller, ordered=False).clamp_min(0)
    if not bool((values > 0).any()):
        raise SpectrumError(
            f"{caller}: `eigenvalues` must not all be zero; got {len(values)} zeros. Check that the code varies over images."
        )
    return values / values.max()


@checked(SpectrumError)
def spectral_entropy(eigenvalues: Numbers, *, of: Of = "eigenvalues", epsilon: float = 0.0) -> float:
    """Shannon entropy of a spectrum, H = -sum p ln p with p the share of each eigenvalue, or of each singular value.

    Divide by ln 2 for bits, by the logarithm of the number of eigenvalues for a number between 0 and 1.

    Args:
        eigenvalues: Of the covariance, non-negative but for rounding, in any order, shape (k,), any unit.
        of: Whether shares are those of variance, or of singular values (their roots).
        epsilon: Added to each share, as RankMe does; shares then do not sum to 1.

    Returns:
        Entropy in nats; 0 to ln k where epsilon is 0.

    Raises:
        SpectrumError: all eigenvalues are zero, or one is negative or not finite; a negative epsilon.

    Example:
        >>> round(spectral_entropy([1.0] * 8) / math.log(2), 6)
        3.0
    """
    if not 0 <= epsilon < math.inf:
        raise SpectrumError(f"spectral_entropy: `epsilon` must be 0 or above; got {epsilon}. Pass for example 1e-7.")
    values = _positive(eigenvalues, "spectral_entropy")
    values = values.sqrt() if of == "singular values" else values
    shares = values / values.sum() + epsilon
    return float(-torch.special.xlogy(shares, shares).sum())


@checked(SpectrumError)
def effective_rank(eigenvalues: Numbers, *, of: Of = "eigenvalues", epsilon: float = 0.0) -> float:
    """Exponential of the spectral entropy: the number of equal eigenvalues (or singular values) that have the same entropy.

    Of singular values it is the effective rank of Roy and Vetterli, and with epsilon 1e-7 RankMe, if eigenvalues are those of
    the activations whose mean was not taken away (see ``rankme``). Of eigenvalues it lies between the participation ratio and
    the rank; of singular values it is never smaller. Few images bias all of them down.

    Args:
        eigenvalues: As for ``spectral_entropy``.
        of: "eigenvalues" or "singular values".
        epsilon: Added to each share.

    Returns:
        Effective rank, dimensionless; 1 to k where epsilon is 0.

    Raises:
        SpectrumError: as for ``spectral_entropy``.

    Source: Roy and Vetterli 2007, EUSIPCO, Eq. (2)-(4) (singular values); Garrido et al. 2023, ICML (RankMe).

    Example:
        >>> round(effective_rank([4.0, 1.0, 0.0], of="singular values"), 3)
        1.89
    """
    return math.exp(spectral_entropy(eigenvalues, of=of, epsilon=epsilon))


@checked(SpectrumError)
def stable_rank(eigenvalues: Numbers) -> float:
    """Sum of the eigenvalues over the largest: squared Frobenius norm over squared spectral norm of the centred activations.

    Args:
        eigenvalues: As for ``spectral_entropy``.

    Returns:
        Stable rank, dimensionless, 1 to k; never above the participation ratio.

    Raises:
        SpectrumError: as for ``spectral_entropy``.

    Source: Rudelson and Vershynin 2007, J. ACM 54(4); of a covariance, the effective rank of Koltchinskii and Lounici 2017.

    Example:
        >>> stable_rank([4.0, 2.0, 2.0])
        2.0
    """
    return float(_positive(eigenvalues, "stable_rank").sum())


@checked(SpectrumError)
def rankme(activations: Numbers, *, centred: bool = False, epsilon: float = RANKME_EPSILON) -> float:
    """RankMe: effective rank of the singular values of activations as they are, without taking their mean away.

    Args:
        activations: Shape (n_images, ...), any float dtype; flattened into units. Decomposed in float64.
        centred: Take the mean of each unit away first.
        epsilon: Added to each share.

    Returns:
        Effective rank, dimensionless; 1 to min(n_images, units) where epsilon is 0.

    Raises:
        SpectrumError: activations that are not floating point, not finite, or all zero.

    Source: Garrido et al. 2023, ICML, Eq. (1).
    """
    rows = as_numbers(activations, caller="rankme", what="activations")
    if rows.ndim < 2 or not rows.is_floating_point() or rows.numel() == 0:
        raise SpectrumError(
            f"rankme: activations must be floating-point numbers of shape (n_images, ...); got {rows.dtype} of shape "
            f"{tuple(rows.shape)}."
        )
    if not bool(torch.isfinite(rows).all()):
        raise SpectrumError(f"rankme: activations must be finite; got NaN or infinite values in shape {tuple(rows.shape)}.")
    rows = rows.flatten(1).double()
    values = torch.linalg.svdvals(rows - rows.mean(0) if centred else rows)
    if not bool(values[0] > 0):
        raise SpectrumError(f"rankme: activations must not all be zero{' once centred' if centred else ''}. Check the layer.")
    return effective_rank((values / values[0]).square(), of="singular values", epsilon=epsilon)
