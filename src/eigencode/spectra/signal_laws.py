"""Power laws whose moments are those of a signal: one exponent over all ranks, or two that meet at a rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq, least_squares, minimize_scalar
from scipy.special import chdtrc, chdtri
from torch import Tensor

from eigencode._shown import Shown
from eigencode.spectra.dimension import power_law_dimension
from eigencode.spectra.intervals import Interval
from eigencode.spectra.jackknife import Jackknife
from eigencode.spectra.sampled_units import DETERMINED
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
_POINTS = 41
"""Values of each parameter of a broken law from which the search for the best starts."""

_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True, repr=False)
class BrokenPowerLaw(Shown):
    """Eigenvalues n^-first up to a rank, and n^-second from there, without a jump.

    Attributes:
        first: Exponent before the break.
        second: Exponent after it; infinite where no finite one fits better, and its upper end where the data set no bound.
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


def concentration(moments: SignalMoments, level: float, *, of_all: bool = False) -> Interval:
    """The ratio tr S^2 / (tr S)^2, the inverse of the dimension, which needs no division by what may be zero.

    Args:
        moments: Of a signal.
        level: Nominal coverage.
        of_all: Of infinitely many neurons of which those recorded are a sample: no neuron is multiplied with itself.

    Returns:
        Interval; NaN, and all from 0 to 1, where the interval of the signal's variance reaches 0.

    Source: of all neurons: Chun et al. 2026, ICLR.
    """
    if not _has_signal(moments, level):
        return Interval(math.nan, 0.0, 1.0)

    def ratio(found: Tensor) -> Tensor:
        own = found[6] if of_all else 0.0
        return (found[2] - own) / (found[1] - own)

    whole = float(ratio(moments.values))
    part = (moments.square - moments.own) / moments.square if of_all else 1.0
    of_pairs = moments.of_pairs / part**2 if part else 0.0
    straight = error_of(moments, ratio, of_pairs=of_pairs * whole**2)
    value = whole - straight.bias + (0.0 if of_all else straight.shift)
    parts = [each for each in (moments.without, moments.without_neurons, moments.without_both) if each is not None]
    if whole > DETERMINED * straight.stderr and all(bool((ratio(each) > 0).all()) for each in parts):
        logarithm = error_of(moments, lambda found: ratio(found).log(), of_pairs=of_pairs)
        low, high = (whole * math.exp(reach) for reach in logarithm.reaches(level))
    else:
        low, high = (whole + reach for reach in straight.reaches(level))
    return Interval(value, min(low, value), max(high, value))


def error_of(moments: SignalMoments, statistic: Callable[[Tensor], Tensor], *, of_pairs: float = 0.0) -> Jackknife:
    """Error of a number over the choice of stimuli, and of neurons if these are a sample.

    Args:
        moments: Of a signal.
        statistic: The number from the seven moments, shape (7, ...).
        of_pairs: See ``Jackknife.of``.
    """
    whole = statistic(moments.values)
    stimuli = Jackknife.of(whole, statistic(moments.without), of_pairs=of_pairs)
    if moments.without_neurons is None or moments.without_both is None:
        return stimuli
    neurons = Jackknife.of(whole, statistic(moments.without_neurons))
    return Jackknife.crossed(whole, stimuli, neurons, statistic(moments.without_both))


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

    tried = np.linspace(0.0, _STEEPEST, 30 * _POINTS)
    at = int(misfit(tried).argmin())
    ends = (tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)])
    best = minimize_scalar(
        lambda alpha: float(misfit(np.array([alpha]))[0]), bounds=ends, method="bounded", options={"xatol": 1e-9}
    )
    return float(chdtrc(2, min(float(best.fun), float(misfit(tried[[at]])[0]))))


def broken_power_law(moments: SignalMoments, n_features: int, level: float) -> BrokenPowerLaw | None:
    """The broken power law of these moments, and for each parameter where the misfit with the others at their best ends.

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
    search = _BrokenLaws(n_features, *found)
    best, misfit = search.best()
    allowed = misfit + float(chdtri(1, 1 - level))
    first, second, rank = (
        Interval(float(best[axis]), *(search.end(axis, side, best, allowed) for side in (0, 1))) for axis in range(3)
    )
    rank = Interval(*(math.exp(each) for each in (rank.value, rank.low, rank.high)))
    return BrokenPowerLaw(_open(first), _open(second), rank, misfit)


class _BrokenLaws:
    """Misfit of broken laws: two exponents, and the logarithm of the rank where they meet.

    Args:
        n_features: Number of ranks.
        values: Of ``_relative``.
        precision: Of ``_relative``.
    """

    def __init__(self, n_features: int, values: Array, precision: Array) -> None:
        self._ranks = np.log(np.arange(1, n_features + 1.0))
        self._values, self._precision = values, precision
        self._root = np.linalg.cholesky(precision).T
        self._limits = np.array([(0.0, _STEEPEST), (0.0, _STEEPEST), (math.log(2), math.log(n_features - 1))])
        ranks = np.unique(np.geomspace(2, n_features - 1, _POINTS).round()).astype(np.int64)
        exponents = np.linspace(0.0, _STEEPEST, _POINTS)
        self._axes = (exponents, exponents, np.log(ranks))
        self._tried = _misfit(_broken_moments(n_features, exponents, exponents, ranks), values, precision)

    def best(self) -> tuple[Array, float]:
        """The law with the least misfit, and that misfit."""
        return self._least(self._start(None, 0.0), free=[0, 1, 2])

    def end(self, axis: int, side: int, best: Array, allowed: float) -> float:
        """Where a parameter's misfit, with the others at their best, passes what is allowed; the limit if it does not."""
        limit, last = float(self._limits[axis, side]), best

        def beyond(value: float) -> float:
            nonlocal last
            free = [other for other in range(3) if other != axis]
            tried = [self._least(self._at(start, axis, value), free) for start in (last, self._start(axis, value))]
            last, misfit = min(tried, key=lambda found: found[1])
            return misfit - allowed

        if beyond(limit) <= 0:
            return limit
        last = best
        return float(brentq(beyond, limit, best[axis], xtol=1e-4))

    def _least(self, start: Array, free: list[int]) -> tuple[Array, float]:
        """The law with the least misfit near one, when some parameters are free."""

        def apart(chosen: Array) -> Array:
            law = start.copy()
            law[free] = chosen
            distances: Array = self._root @ self._apart(law)
            return distances

        lower, upper = self._limits[free].T
        inside = np.clip(start[free], lower + 1e-9, upper - 1e-9)
        found = least_squares(apart, inside, bounds=(lower, upper), x_scale=0.1)
        law = start.copy()
        law[free] = found.x
        return law, 2 * float(found.cost)

    def _apart(self, law: Array) -> Array:
        first, second, rank = law
        values = np.where(self._ranks <= rank, -first * self._ranks, (second - first) * rank - second * self._ranks)
        powers = np.array([np.log(np.exp(order * values).sum()) for order in _ORDERS])
        distances: Array = powers[1:] - np.array(_ORDERS[1:]) * powers[0] - self._values
        return distances

    def _start(self, axis: int | None, value: float) -> Array:
        """The best law that was tried on the grid, or the best one whose parameter is nearest to a value."""
        tried = self._tried
        if axis is not None:
            near = int(np.abs(self._axes[axis] - value).argmin())
            tried = np.full_like(self._tried, np.inf)
            place = tuple(near if other == axis else slice(None) for other in range(3))
            tried[place] = self._tried[place]
        at = np.unravel_index(tried.argmin(), tried.shape)
        return np.array([self._axes[other][place] for other, place in enumerate(at)])

    @staticmethod
    def _at(law: Array, axis: int, value: float) -> Array:
        moved = law.copy()
        moved[axis] = value
        return moved


def _open(found: Interval) -> Interval:
    return Interval(*(math.inf if end > _STEEPEST - 1e-6 else end for end in (found.value, found.low, found.high)))


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
