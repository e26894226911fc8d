"""Differentiable terms for a loss: on the eigenspectrum of a code, on its covariance, and on the network's Jacobian."""

from eigencode.penalties.covariance import covariance_members, covariance_penalty
from eigencode.penalties.jacobian import (
    compare_jacobians,
    half_square_or_norm,
    jacobian_penalty,
    jacobian_squares,
    random_directions,
)
from eigencode.penalties.spectral import PenaltyStep, SpectralPenalty
from eigencode.spectra.leading import Tracking

__all__ = [
    "PenaltyStep",
    "SpectralPenalty",
    "Tracking",
    "compare_jacobians",
    "covariance_members",
    "covariance_penalty",
    "half_square_or_norm",
    "jacobian_penalty",
    "jacobian_squares",
    "random_directions",
]
