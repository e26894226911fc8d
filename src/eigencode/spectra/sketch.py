"""A seeded random projection of units, for codes too wide for either the Gram or the covariance matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_REPEATS = 4
"""Nonzero entries of each unit's row: sparse sign maps with 4 to 8 behave like Gaussian ones (Martinsson & Tropp 2020, 9.2)."""

_FAILURE = 1e-6
"""Probability with which the stated bound may be wrong."""


@dataclass(frozen=True)
class Sketch:
    """Sparse sign map from f units to m sums of units; a function of (f, m, seed) alone.

    Every unit enters 4 of the sums with a random sign, and inner products between samples are preserved in expectation.
    The map is linear in each sample, so that neither batches nor shards change the result.

    Attributes:
        n_features: Number of units f.
        dimension: Number of sums m.
        seed: Seed of the map.
    """

    n_features: int
    dimension: int
    seed: int

    def __call__(self, samples: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch m"]:
        """Projects the last dimension of the samples from f to m, in float64."""
        generator = torch.Generator().manual_seed(self.seed)
        values = samples.reshape(-1, self.n_features).to(torch.float64)
        width = -(-self.n_features // self.dimension)
        padded = torch.nn.functional.pad(values, (0, width * self.dimension - self.n_features))
        total = torch.zeros(len(values), self.dimension, dtype=torch.float64, device=samples.device)
        for _ in range(_REPEATS):
            order = torch.randperm(width * self.dimension, generator=generator)
            signs = torch.randint(0, 2, order.shape, generator=generator).to(torch.float64).mul_(2).sub_(1)
            picked = padded[:, order.to(samples.device)].mul_(signs.to(samples.device))
            total += picked.view(len(values), width, self.dimension).sum(dim=1)
        return (total / math.sqrt(_REPEATS)).view(*samples.shape[:-1], self.dimension)


def sketch_error(n_samples: int, n_features: int, dimension: int) -> float:
    """Bound on the relative error of every eigenvalue measured through a sketch.

    (1 + sqrt(r/m) + t)^2 - 1 with r the largest possible rank and t = sqrt(2 ln(2 / 1e-6) / m): the two-sided bound for a
    Gaussian map (Davidson & Szarek 2001, Theorem II.13) with Ostrowski's theorem; it fails with probability 1e-6. It holds
    for all eigenvalues at once and so is far above the typical error of a leading one, sqrt(2 / m). For the sparse sign
    map the constants are observed, not proved.

    Args:
        n_samples: Number of samples.
        n_features: Number of units f.
        dimension: Sketch dimension m.

    Returns:
        Relative error, dimensionless.
    """
    rank = min(n_samples - 1, n_features)
    deviation = math.sqrt(rank / dimension) + math.sqrt(2 * math.log(2 / _FAILURE) / dimension)
    return (1 + deviation) ** 2 - 1
