"""What n samples and f units do to the exponent, and how to take it back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from eigencode._arguments import checked
from eigencode.errors import SpectrumError
from eigencode.spectra.covariance import Moments, add_samples, covariance, gram_of_rows
from eigencode.spectra.eigenvalues import Numbers, checked_eigenvalues, descending_eigenvalues
from eigencode.spectra.power_law import power_law_line
from eigencode.spectra.window import Ranks, Window

_TIE = 1e-9
"""Neighbours closer than this, relative to their size, are one eigenvalue of several dimensions: rounding decides their gap."""

_MOST_NUMBERS = 2**30
"""Numbers of a simulated sample: 8 GiB."""

_BISECTIONS = 44
"""Halvings of each bracket: 13 digits of the gap between neighbours."""


@checked(SpectrumError)
def population_eigenvalues(eigenvalues: Numbers, *, n_samples: int, ranks: tuple[int, int]) -> Float[Tensor, " r"]:
    """Eigenvalues of the population behind a sample, for a window of ranks.

    Sampling pushes eigenvalues apart: the large come out too large, the small too small. With mu the eigenvalues of
    diag(l) - sqrt(l) sqrt(l)^T / N, the estimate N (l_i - mu_i) is consistent when n and f grow together, as long as the
    eigenvalue's neighbourhood is separated from the rest; equal eigenvalues are estimated together. It assumes samples that
    are independent up to a linear map; it under-corrects where neighbouring eigenvalues merge (slow decay, alpha below about
    0.7, with more units than samples).

    Args:
        eigenvalues: All sample eigenvalues, largest first, shape (k,); zeros at the end do no harm.
        n_samples: Degrees of freedom N of the covariance matrix, samples minus one; above the last rank of the window.
        ranks: Window, 1-based, inclusive.

    Returns:
        Estimates for the ranks of the window, shape (last - first + 1,), in the units of the input.

    Raises:
        SpectrumError: eigenvalues that are not finite, negative beyond rounding or not in order, or a window that goes beyond the
            positive ones or beyond n_samples - 1.

    Source: Mestre 2008, IEEE Trans. Inf. Theory 54(11), Theorem 3, with every distinct eigenvalue its own cluster.
    """
    values = checked_eigenvalues(eigenvalues, caller="population_eigenvalues").clamp_min(0)[: max(0, n_samples)]
    first, last = ranks
    available = min(int((values > 0).sum()), n_samples - 1)
    if not 1 <= first <= last <= available:
        raise SpectrumError(
            f"population_eigenvalues: `ranks` {ranks} must lie within 1..{available}, the positive eigenvalues below {n_samples} "
            "degrees of freedom. Lower the last rank or pass more images."
        )
    tied = values[1:] >= values[:-1] * (1 - _TIE)
    while first > 1 and tied[first - 2]:
        first -= 1
    while last < len(values) and tied[last - 1]:
        last += 1
    window = values[first - 1 : last]
    following = torch.nn.functional.pad(values, (0, 1))[first : last + 1]
    low, high = torch.zeros_like(window), window - following
    difference = values[None, :] - window[:, None]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = (values / (difference + middle[:, None])).sum(1) > n_samples
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    estimates = n_samples * high
    cluster = torch.cat([tied.new_zeros(1), ~tied[first - 1 : last - 1]]).long().cumsum(0)
    means = torch.zeros_like(estimates).index_add(0, cluster, estimates) / cluster.bincount(minlength=len(estimates))
    return means[cluster][ranks[0] - first : ranks[1] - first + 1]


@checked(SpectrumError)
def population_exponent(eigenvalues: Numbers, *, n_samples: int, ranks: Ranks) -> float:
    """Exponent of the line through the estimated population eigenvalues (see ``population_eigenvalues``)."""
    window = Window.of(ranks)
    estimates = population_eigenvalues(eigenvalues, n_samples=n_samples, ranks=window.ranks)
    in_place = torch.nn.functional.pad(estimates, (window.first - 1, 0), value=1.0)
    return float(power_law_line(in_place, window)[0])


@checked(SpectrumError)
def expected_exponent(alpha: float, *, n_samples: int, n_features: int, ranks: Ranks, draws: int = 5, seed: int = 0) -> float:
    """Exponent that the plain fit reports, on average, for a Gaussian code whose true exponent is ``alpha``.

    Answers before an experiment: are this many images enough for this window? The mean over ``draws`` simulated samples.

    Args:
        alpha: True exponent of all n_features eigenvalues.
        n_samples: Number of images n.
        n_features: Number of units f.
        ranks: Window of the fit.
        draws: Simulated samples.
        seed: Seed of the simulation.

    Returns:
        Mean fitted exponent.

    Raises:
        SpectrumError: the window does not fit into min(n - 1, f) ranks, no draws, or an exponent that is not finite.

    Example:
        >>> round(expected_exponent(0.5, n_samples=300, n_features=1000, ranks=(6, 50)), 2)
        0.32
    """
    window = Window.of(ranks)
    if window.last > min(n_samples - 1, n_features):
        raise SpectrumError(
            f"expected_exponent: `ranks` {window} must lie within 1..{min(n_samples - 1, n_features)} for {n_samples} samples "
            f"of {n_features} units. Lower the last rank or raise either number."
        )
    if n_samples * n_features > _MOST_NUMBERS:
        raise SpectrumError(
            f"expected_exponent: a simulated sample of {n_samples} x {n_features} numbers is too large; {_MOST_NUMBERS} at most. "
            "Lower one of them."
        )
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, n_features + 1, dtype=torch.float64) ** (-alpha / 2)
    total = 0.0
    for _ in range(draws):
        sample = torch.randn(n_samples, n_features, generator=generator, dtype=torch.float64) * scale
        if n_features <= n_samples:
            matrix = covariance(add_samples(Moments.empty(n_features, sample.device), sample[:, None]))
        else:
            matrix = gram_of_rows([sample])
        total += float(power_law_line(descending_eigenvalues(matrix), window)[0])
    return total / draws
