"""A seeded random projection of units, for codes too wide for either the Gram or the covariance matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_REPEATS = 4
"""Nonzero entries of each unit's row: sparse sign maps with 4 to 8 behave like Gaussian ones (Martinsson & Tropp 2020, 9.2)."""

_SCRATCH = 2**22
"""Bytes for working copies of pieces of the samples, unless there are fewer: they stay in cache."""

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

    def __call__(self, samples: Float[Tensor, "*batch f"], *, scratch: int = _SCRATCH) -> Float[Tensor, "*batch m"]:
        """Projects the last dimension of the samples from f to m, in float64.

        Args:
            samples: Activations, shape (..., f), any float dtype.
            scratch: Bytes for working copies of pieces of the samples.

        Returns:
            Sums of units, shape (..., m).
        """
        generator = torch.Generator().manual_seed(self.seed)
        values = samples.reshape(-1, self.n_features)
        places = -(-self.n_features // self.dimension) * self.dimension  # each unit's, and some that stay empty
        total = torch.zeros(len(values), self.dimension, dtype=torch.float64, device=samples.device)
        for _ in range(_REPEATS):
            unit_at = torch.randperm(places, generator=generator, dtype=torch.int32)
            signs = torch.randint(0, 2, (places,), generator=generator, dtype=torch.int8).mul_(2).sub_(1)
            signs.masked_fill_(unit_at >= self.n_features, 0)
            self._add(values, unit_at.clamp_(max=self.n_features - 1), signs, total, scratch)
        return total.div_(math.sqrt(_REPEATS)).view(*samples.shape[:-1], self.dimension)

    def _add(self, values: Tensor, unit_at: Tensor, signs: Tensor, total: Tensor, scratch: int) -> None:
        """Adds to ``total`` each unit with its sign, place k to sum k mod m, in pieces of few samples and places."""
        unit_at, signs = unit_at.to(values.device), signs.to(values.device)
        row_bytes = self.dimension * (values.element_size() + 9)  # as they are picked, in float64, and their signs
        n_rows = min(max(1, scratch // row_bytes), max(1, len(values)))
        n_places = max(1, scratch // (n_rows * row_bytes)) * self.dimension
        for rows, sums in zip(values.split(n_rows), total.split(n_rows), strict=True):
            for units, sign in zip(unit_at.split(n_places), signs.split(n_places), strict=True):
                picked = rows.index_select(1, units).to(torch.float64).mul_(sign)
                sums += picked.view(len(rows), -1, self.dimension).sum(dim=1)


def map_bytes(n_features: int) -> int:
    """Bytes that the map itself takes while it is applied: place, sign and whether it is empty, for each unit."""
    return 6 * n_features


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
