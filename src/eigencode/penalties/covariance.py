"""Penalty on what units share: the off-diagonal part of a code's covariance."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eigencode._arguments import checked
from eigencode.errors import PenaltyError

CovarianceKind = Literal["batch", "per_sample"]


@checked(PenaltyError)
def covariance_penalty(activations: Float[Tensor, "n ..."], *, kind: CovarianceKind = "batch") -> Float[Tensor, ""]:
    """Frobenius norm of the off-diagonal part of a code's covariance, in squared activation units.

    "batch": of the covariance between units over the batch, which is what the text of Schaeffer et al. describes. "per_sample":
    of the outer product h h' of each image's code, averaged over images, as their Eq. (1) can be read too. No units x units
    matrix is formed where there are fewer images than units. Under several processes each takes its own batch.

    Args:
        activations: Outputs of a layer, shape (n, ...); everything but the first dimension is units.
        kind: "batch" or "per_sample".

    Returns:
        Scalar, differentiable; the gradient is 0 where the norm is 0.

    Raises:
        PenaltyError: an unknown kind, fewer than two images for "batch", or activations that are not finite or overflow.

    Source: Schaeffer et al. 2020, Eq. (1).

    Example:
        >>> code = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
        >>> covariance_penalty(code)  # covariance [[2, 4], [4, 8]]: 4 * sqrt(2)
        tensor(5.6569)
    """
    value = covariance_members(torch.as_tensor(activations)[None], kind=kind)[0]
    if not bool(torch.isfinite(value)):
        raise PenaltyError(
            "covariance_penalty: activations must be finite, and so must the squares of their products; got NaN or infinite "
            "values. Lower the learning rate, or divide the activations."
        )
    return value


@checked(PenaltyError)
def covariance_members(
    activations: Float[Tensor, "members n ..."], *, kind: CovarianceKind = "batch"
) -> Float[Tensor, " members"]:
    """``covariance_penalty`` of each member of an ensemble; NaN or infinite where its activations are, or overflow."""
    if not isinstance(activations, Tensor) or activations.ndim < 3 or not activations.dtype.is_floating_point:
        shape = tuple(getattr(activations, "shape", ()))[1:]
        raise PenaltyError(f"covariance_penalty: activations must be a floating-point tensor (n, units ...); got shape {shape}.")
    code = activations.flatten(2)
    _, n_samples, n_features = code.shape
    if kind == "per_sample":
        squares = code**2
        return _root(squares.sum(dim=2) ** 2 - (squares**2).sum(dim=2)).mean(dim=1)
    if n_samples < 2:
        raise PenaltyError(f"covariance_penalty: a covariance needs at least 2 images in a batch; got {n_samples}.")
    centred = code - code.mean(dim=1, keepdim=True)
    if n_features <= n_samples:
        products = centred.mT @ centred
        off_diagonal = products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))
        return _root((off_diagonal**2).sum(dim=(1, 2))) / (n_samples - 1)
    gram = centred @ centred.mT
    variances = (centred**2).sum(dim=1)
    return _root((gram**2).sum(dim=(1, 2)) - (variances**2).sum(dim=1)) / (n_samples - 1)


def _root(squares: Tensor) -> Tensor:
    """Square root, 0 with gradient 0 at and below 0, NaN of NaN."""
    nothing = squares <= 0
    return torch.where(nothing, 0.0, torch.where(nothing, 1.0, squares).sqrt())
