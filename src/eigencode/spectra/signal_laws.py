"""Power laws whose moments are those of a signal: one exponent over all ranks, or two that meet at a rank."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.special import chdtrc, chdtri
from torch import Tensor

from eigencode.spectra.dimension import power_law_dimension
from eigencode.spectra.jackknife import Jackknife
from eigencode.spectra.signal_moments import SignalMoments

Array = np.ndarray

DOUBTFUL = 0.01
"""Agreement below which one exponent is said not to describe a signal."""

FEWEST_RANKS = 6
"""Of a broken power law."""

UNLIKELY = 6.63
"""Misfit beyond which no broken law is taken for that of the moments: one in a hundred is so far, with one degree of freedom."""

_STEEPEST = 8.0
_USUAL = 0.95
_POINTS = 61
"""Values of each parameter at which a broken law is tried in a round."""

_SLACK = (100.0, 20.0, 5.0, 0.0)
"""Misfit, in squared standard errors, by which a round leaves more than the interval, since its grid is coarse."""

_DETERMINED = 2.5
"""Standard errors above zero from which a concentration is judged by its logarithm."""

_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval.

    Attributes:
        value: NaN if the data do not determine it.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BrokenPowerLaw:
    """Eigenvalues n^-first up to a rank, and n^-second from there, without a jump.

    Attributes:
        first: Exponent before the break.
        second: Exponent after it; its ends are 0 and infinity where the data set no bound.
        rank: Rank of the break; an end at rank 2 or at the last but one may be no bound.
        misfit: Squared distance of the law's moments from those of the signal, in standard errors.
    """

    first: Interval
    second: Interval
    rank: Interval
    misfit: float

    def eigenvalues(self, n_features: int, variance: float) -> Tensor:
        """Of the law, shape (n_features,), with a sum of ``variance``."""
        ranks, rank = torch.arange(1, n_features + 1, dtype=torch.float64), self.rank.value
        first, second = (min(each.value, _STEEPEST) for each in (self.first, self.second))
        values = torch.where(ranks <= rank, ranks**-first, rank ** (second - first) * ranks**-second)
        return values * (variance / values.sum())


def concentration(moments: SignalMoments, level: float) -> Interval:
    """The ratio tr S^2 / (tr S)^2, the inverse of the dimension, which needs no division by what may be zero.

    Args:
        moments: Of a signal.
        level: Nominal coverage.

    Returns:
        Interval; NaN, and all from 0 to 1, where the interval of the signal's variance reaches 0.
    """
    if not _has_signal(moments, level):
        return Interval(math.nan, 0.0, 1.0)
    whole = moments.square / moments.squared_trace
    _, squared, square = moments.without[:3]
    straight = Jackknife.of(whole, square / squared, of_pairs=moments.of_pairs * whole**2)
    value = whole - straight.bias
    if whole > _DETERMINED * straight.stderr and bool((square > 0).all()):
        logarithm = Jackknife.of(math.log(whole), (square / squared).log(), of_pairs=moments.of_pairs)
        low, high = (whole * math.exp(reach) for reach in logarithm.reaches(level))
    else:
        low, high = (whole + reach for reach in straight.reaches(level))
    return Interval(value, min(low, value), max(high, value))


def _has_signal(moments: SignalMoments, level: float) -> bool:
    return moments.trace + Jackknife.of(moments.trace, moments.without[0]).reaches(level)[0] > 0


def exponent_of(share: float, n_features: int) -> float:
    """Exponent of the power law over n_features ranks whose concentration is ``share``: 0 for 1 / n_features, infinite for 1."""
    if math.isnan(share) or share <= 1 / n_features:
        return 0.0
    if share >= 1 / power_law_dimension(_STEEPEST, n_features):
        return math.inf
    return float(brentq(lambda alpha: math.log(power_law_dimension(alpha, n_features) * share), 0, _STEEPEST))


def agreement(moments: SignalMoments, n_features: int) -> float:
    """Probability of third and fourth moments so far from those of the best power law, if it holds; NaN if one is not above 0."""
    found = _relative(moments)
    if found is None:
        return math.nan
    values, precision = found
    ranks = np.arange(1, n_features + 1.0)[None, :]

    def misfit(exponents: Array) -> Array:
        return _misfit(_log_moments(ranks, exponents), values, precision)

    tried = np.linspace(0.0, _STEEPEST, 20 * _POINTS)
    at = int(misfit(tried).argmin())
    ends = (tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)])
    best = minimize_scalar(
        lambda alpha: float(misfit(np.array([alpha]))[0]), bounds=ends, method="bounded", options={"xatol": 1e-9}
    )
    return float(chdtrc(2, min(float(best.fun), float(misfit(tried[[at]])[0]))))


def broken_power_law(moments: SignalMoments, n_features: int, level: float) -> BrokenPowerLaw | None:
    """The broken power law of these moments: where the misfit of the other two parameters is least, for each parameter.

    Args:
        moments: Of a signal.
        n_features: Number of ranks.
        level: Nominal coverage.

    Returns:
        None if the third or fourth moment, or the interval of the signal's variance, is not above 0, or for fewer than six ranks.
    """
    found = _relative(moments)
    if found is None or n_features < FEWEST_RANKS:
        return None
    allowed = float(chdtri(1, 1 - level))
    bounds = [(0.0, _STEEPEST), (0.0, _STEEPEST), (2.0, float(n_features - 1))]
    for slack in _SLACK:
        axes = [np.linspace(*bounds[0], _POINTS), np.linspace(*bounds[1], _POINTS), _ranks(*bounds[2])]
        misfit = _misfit(_broken_moments(n_features, *axes), *found)
        best = np.unravel_index(misfit.argmin(), misfit.shape)
        profiles = [misfit.min(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
        inside = [np.flatnonzero(profile <= misfit.min() + allowed + slack) for profile in profiles]
        ends = [(max(kept[0] - 1, 0), min(kept[-1] + 1, len(axis) - 1)) for kept, axis in zip(inside, axes, strict=True)]
        bounds = [(float(axis[low]), float(axis[high])) for axis, (low, high) in zip(axes, ends, strict=True)]
    first, second, rank = (
        Interval(float(axis[at]), float(axis[kept[0]]), float(axis[kept[-1]]))
        for axis, at, kept in zip(axes, best, inside, strict=True)
    )
    return BrokenPowerLaw(_open(first), _open(second), rank, float(misfit.min()))


def _open(found: Interval) -> Interval:
    return Interval(*(math.inf if end >= _STEEPEST else end for end in (found.value, found.low, found.high)))


def _ranks(low: float, high: float) -> Array:
    return np.unique(np.geomspace(low, high, _POINTS).round()).astype(np.int64)


def _relative(moments: SignalMoments) -> tuple[Array, Array] | None:
    """Logarithm of tr S^k / (tr S)^k for k = 2, 3, 4, and the inverse of their covariance."""
    _, squared, *others = moments.without[:5]
    if not _has_signal(moments, _USUAL) or min(moments.squared_trace, moments.square, moments.cube, moments.fourth) <= 0:
        return None
    if not bool((moments.without[1:5] > 0).all()):
        return None
    whole = torch.tensor([moments.square, moments.cube, moments.fourth], dtype=torch.float64).log()
    powers = torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64)
    whole = whole - powers * math.log(moments.squared_trace)
    without: Tensor = torch.stack(others).cpu().log() - powers[:, None] * squared.cpu().log()
    count = without.shape[1]
    influence = (count - 1) * (without.mean(1, keepdim=True) - without)
    covariance = influence @ influence.T / (count * (count - 1))
    values = whole - (count - 1) * (without.mean(1) - whole)
    return values.numpy(), torch.linalg.pinv(covariance, hermitian=True).numpy()


def _misfit(tried: Array, values: Array, precision: Array) -> Array:
    """Squared distance, in standard errors, of laws from what was found.

    Args:
        tried: Log moments of the laws for ``_ORDERS``, shape (4, ...).
        values: Of ``_relative``.
        precision: Of ``_relative``.
    """
    apart = np.stack([tried[order - 1] - order * tried[0] - values[order - 2] for order in _ORDERS[1:]])
    distances: Array = np.einsum("k...,kl,l...->...", apart, precision, apart)
    return distances


def _log_moments(ranks: Array, exponents: Array) -> Array:
    """Logarithm of the sum of n^(-k alpha), shape (4, len(exponents))."""
    return np.stack([np.log(np.exp(-order * exponents[:, None] * np.log(ranks)).sum(1)) for order in _ORDERS])


def _broken_moments(n_features: int, first: Array, second: Array, ranks: Array) -> Array:
    """Logarithm of the summed powers of broken laws, shape (4, first, second, ranks)."""
    logarithms, breaks = np.log(np.arange(1, n_features + 1.0)), np.log(ranks)
    found = []
    for order in _ORDERS:
        head = np.exp(-order * first[:, None] * logarithms).cumsum(1)[:, ranks - 1]
        tail = np.exp(-order * second[:, None] * logarithms)
        tail = tail[:, ::-1].cumsum(1)[:, ::-1][:, ranks]  # beyond the break
        joined = np.exp(order * (second[None, :, None] - first[:, None, None]) * breaks)
        found.append(np.log(head[:, None, :] + joined * tail[None, :, :]))
    return np.stack(found)
