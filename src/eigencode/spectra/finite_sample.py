"""What n samples and f units do to the exponent: an answer before an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from eigencode._arguments import checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.covariance import Moments, add_samples, covariance, gram_of_rows
from eigencode.spectra.eigenvalues import descending_eigenvalues
from eigencode.spectra.power_law import power_law_line
from eigencode.spectra.window import Ranks, Window

_CLEAR = math.log(1e4)
"""How far the smallest eigenvalue of a window must be above rounding."""

_MOST_NUMBERS = 2**30
"""Numbers of a simulated sample: 8 GiB."""


@dataclass(frozen=True, repr=False)
class ExpectedExponent(Shown):
    """What the plain fit reports of simulated samples.

    Attributes:
        alpha: Mean of the fitted exponents.
        stderr: Standard error of this mean.
        spread: Standard deviation of single samples about it.
    """

    alpha: float
    stderr: float
    spread: float


@checked(SpectrumError)
def expected_exponent(
    alpha: float, *, n_samples: int, n_features: int, ranks: Ranks, draws: int = 5, seed: int = 0
) -> ExpectedExponent:
    """Exponent that the plain fit reports, on average, for a Gaussian code whose true exponent is ``alpha``.

    Answers before an experiment: are this many images enough for this window? Samples are simulated.

    Args:
        alpha: True exponent of all n_features eigenvalues.
        n_samples: Number of images n.
        n_features: Number of units f.
        ranks: Window of the fit.
        draws: Simulated samples, 2 at least.
        seed: Seed of the simulation.

    Returns:
        ExpectedExponent.

    Raises:
        SpectrumError: the window does not fit into min(n - 1, f) ranks, fewer than 2 draws, or an exponent that is not finite.

    Example:
        >>> round(expected_exponent(0.5, n_samples=300, n_features=1000, ranks=(6, 50)).alpha, 2)
        0.32
    """
    window = Window.of(ranks)
    if draws < 2:
        raise SpectrumError(f"expected_exponent: `draws` must be at least 2, for a standard error; got {draws}. Raise it.")
    if window.last > min(n_samples - 1, n_features):
        raise SpectrumError(
            f"expected_exponent: `ranks` {window} must lie within 1..{min(n_samples - 1, n_features)} for {n_samples} samples "
            f"of {n_features} units. Lower the last rank or raise either number."
        )
    if alpha * math.log(window.last) > -math.log(max(n_samples, n_features) * np.finfo(float).eps) - _CLEAR:
        raise SpectrumError(
            f"expected_exponent: with `alpha` = {alpha}, the eigenvalue at rank {window.last} is lost in rounding. "
            "Lower the last rank or the exponent."
        )
    if n_samples * n_features > _MOST_NUMBERS:
        raise SpectrumError(
            f"expected_exponent: a simulated sample of {n_samples} x {n_features} numbers is too large; {_MOST_NUMBERS} at most. "
            "Lower one of them."
        )
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, n_features + 1, dtype=torch.float64) ** (-alpha / 2)
    found = []
    for _ in range(draws):
        sample = torch.randn(n_samples, n_features, generator=generator, dtype=torch.float64) * scale
        if n_features <= n_samples:
            matrix = covariance(add_samples(Moments.empty(n_features, sample.device), sample[:, None]))
        else:
            matrix = gram_of_rows([sample])
        found.append(float(power_law_line(descending_eigenvalues(matrix), window)[0]))
    spread = float(np.std(found, ddof=1))
    return ExpectedExponent(float(np.mean(found)), spread / math.sqrt(draws), spread)
