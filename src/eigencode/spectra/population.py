"""The spectrum of the population behind a sample: the least bent one whose expected sample spectrum is the one observed."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from eigencode._arguments import checked
from eigencode._shown import Shown
from eigencode.errors import SpectrumError
from eigencode.spectra.bending import Bending
from eigencode.spectra.eigenvalues import Numbers, checked_eigenvalues, numerical_floor, numerical_rank
from eigencode.spectra.gains import Gains
from eigencode.spectra.power_law import power_law_line, slope_weights
from eigencode.spectra.sampling import Expected, Sampling, means_over_bins, rank_bins
from eigencode.spectra.window import Ranks, Window

Array = np.ndarray

_USED = 0.9
"""Part of the sample's rank whose eigenvalues are used: the very last are the most sensitive to rounding."""

_USED_OF_FEWER = 0.5
"""The same where samples depend on each other, so that only the spectrum itself tells how many they count for."""

_FEWEST = 10

_FEWEST_RANKS = 3

_FEWEST_OF_FEWER = 16
"""Independent samples that dependent ones must count for."""

_FEWER_UNITS = 1.2
"""With more units than so many times the samples, the last eigenvalues get a knot of their own."""

_DISCRETE = 2e-3
"""Error of expected logarithms by taking neighbouring eigenvalues of the population for equal."""

_ROUNDS = 12
_SAME_NOISE = 3
"""Iterations, and from which on the sampling errors are taken as known."""

_LARGEST_STEP = 1.5
_SETTLED = 0.03
"""Iterations end where the mean squared residual, in standard errors, changes by less than this."""

_DOUBTFUL = 2.0
"""Misfit above which a low rank may not be that of the units, but that of samples some of which are equal."""

UNLIKE = 6.0
"""Mean squared residual, in standard errors, above which no smooth population has the sample's spectrum. Codes of
``benchmarks.spectrum_bench`` stay below 3 in 200 trials; images that were copied and changed a little reach 6 to thousands."""


@dataclass(frozen=True, repr=False)
class PopulationSpectrum(Shown):
    """Eigenvalues of the population that a sample's images were drawn from.

    Attributes:
        eigenvalues: Largest first, float64, shape (n_features,), or as many as the sample's rank where that is the units', in the
            sample's units. Beyond the number of images they are what is left of the total variance, spread smoothly.
        n_samples: Samples behind them.
        misfit: Mean squared difference of the observed from the expected logarithms of sample eigenvalues, in standard errors.
        gains: Law of the images' gains that was taken.
        name: Layer or recording.
    """

    eigenvalues: Tensor
    n_samples: int
    misfit: float
    gains: Gains
    name: str = "activations"
    fitted: PopulationFit = field(compare=False, kw_only=True)

    def _shown(self) -> dict[str, object]:
        return {"name": self.name, "samples": self.n_samples, "units": len(self.eigenvalues), "misfit": self.misfit}

    @checked(SpectrumError)
    def exponent(self, ranks: Ranks = "gerum") -> float:
        """Exponent of the line through the eigenvalues of a window (see ``fit_power_law``).

        Raises:
            SpectrumError: the window goes beyond the eigenvalues.
        """
        window = Window.of(ranks)
        if window.last > len(self.eigenvalues):
            raise SpectrumError(
                f"{self.name}: `ranks` {window} must end at {len(self.eigenvalues)} or below, the rank of the population. Lower "
                "the last rank."
            )
        return float(power_law_line(self.eigenvalues, window)[0])


@checked(SpectrumError)
def population_spectrum(
    eigenvalues: Numbers,
    *,
    n_samples: int,
    n_features: int,
    gains: Gains | None = None,
    name: str = "population_spectrum",
) -> PopulationSpectrum:
    """Eigenvalues of the population behind a sample.

    Sampling pushes eigenvalues apart: the large come out too large, the small too small, and the more units there are than
    images, the more. How far is known for any population (see ``sampling``); the population sought is the one whose expected
    sample spectrum is the one observed. Its logarithm is piecewise linear in the logarithm of the rank, falls, and bends as
    little as the data let it, with sharp bends in few places (see ``bending``). The mean of each bin of ranks counts with its
    sampling error, the total variance too.

    No distribution is assumed but that images are independent, given ``gains``, and that units mix or have tails that are not
    extreme.

    Args:
        eigenvalues: All eigenvalues of the sample's covariance, largest first, shape (k,); zeros at the end do no harm.
        n_samples: Samples n.
        n_features: Units f.
        gains: Of the images; default: all alike.
        name: What error messages call the code.

    Returns:
        PopulationSpectrum.

    Raises:
        SpectrumError: eigenvalues that are not finite, negative beyond rounding or not in order; fewer than three positive ones.

    Source: the idea: El Karoui 2008, Ann. Stat. 36; Ledoit and Wolf 2015, J. Multivariate Anal. 139 (without the smoothness, and
    without gains).

    Example:
        >>> law = torch.arange(1, 201, dtype=torch.float64) ** -1.0
        >>> sample = torch.randn(400, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * law.sqrt()
        >>> values = torch.linalg.eigvalsh(sample.T.cov()).flip(0)
        >>> round(population_spectrum(values, n_samples=400, n_features=200).exponent("6-50"), 1)
        1.0
    """
    values = checked_eigenvalues(eigenvalues, caller=name).clamp_min(0)
    floor = numerical_floor(float(values[0]), n_samples=n_samples, n_features=n_features)
    rank = numerical_rank(values, floor=floor, n_samples=n_samples)
    if rank < _FEWEST_RANKS:
        raise SpectrumError(f"{name}: a spectrum needs 3 positive eigenvalues; got {rank}. Pass more images or another layer.")
    if rank > n_features:
        raise SpectrumError(f"{name}: {n_features} units cannot have {rank} positive eigenvalues. Check `n_features`.")
    law = gains or Gains()
    counted = (n_samples - 1) * law.independent
    if law.independent < 1 and counted < _FEWEST_OF_FEWER:
        raise SpectrumError(
            f"{name}: these {n_samples} samples belong together in so few sets that they count as {counted:.0f} independent; "
            f"{_FEWEST_OF_FEWER} are needed. Pass more sets of images."
        )
    fits: list[PopulationFit] = []
    for units in [n_features] if rank in (n_samples - 1, n_features) else [rank, n_features]:
        if not fits or law.independent < 1 or fits[0].misfit > _DOUBTFUL:
            with suppress(np.linalg.LinAlgError):
                fits.append(PopulationFit(values[:rank].numpy(), n_samples - 1, units, law))
    if not fits:
        raise SpectrumError(
            f"{name}: no population was found whose samples have this spectrum. Look at the spectrum: steps of many orders of "
            "magnitude have this effect."
        )
    fit = min(fits, key=lambda each: each.misfit)
    spectrum = torch.from_numpy(np.exp(fit.logarithms(np.arange(1.0, fit.units + 1))) * fit.unit)
    return PopulationSpectrum(spectrum, n_samples, fit.misfit, law, name, fitted=fit)


class PopulationFit:
    """Gauss-Newton iterations, and what the exponent's error needs of them.

    Attributes:
        unit: Variance in which eigenvalues are counted.
        sampling: With the bins whose means are the data.
        places: Logarithms of the ranks of the knots.
        bending: Prior of the coefficients.
        coefficients: Logarithms at the knots.
        prior: Covariance of the coefficients that the prior adds, shape (knots, knots).
        covariance: Of the data, if the code is Gaussian, shape (bins + 1, bins + 1).
        misfit: Mean squared residual, in standard errors.
    """

    def __init__(self, values: Array, degrees: int, units: int, gains: Gains) -> None:
        self.unit = float(values.sum())
        self.degrees, self.units, self.gains = degrees, units, gains
        within = min(len(values), math.floor(degrees * gains.independent))
        self._used = _USED if gains.independent == 1 else _USED_OF_FEWER
        bins = rank_bins(max(min(within, _FEWEST), int(self._used * within)))
        self.sampling = Sampling(degrees=degrees, n_features=units, bins=bins, gains=gains)
        knots = np.r_[np.sqrt(bins[:-1] * (bins[1:] - 1.0)), within]
        knots = np.unique(np.r_[knots, units] if units > _FEWER_UNITS * within else np.minimum(np.r_[knots, units], units))
        self.places = np.log(knots)
        self._atoms = self._means(self.sampling)
        self.bending = Bending(self.places)
        self._data = np.r_[means_over_bins(values / self.unit, bins), 0.0]
        self._iterate(min(self._starts(), key=self._distance))

    def _starts(self) -> list[Array]:
        """Coefficients to begin with: the sample's own, and a power law."""
        own, places = self._data[:-1], self.places
        count = min(len(own), len(places))
        law = min(-0.1, float(np.polyfit(places[:count], own[:count], 1)[0])) * places
        law = law - math.log(float(np.exp(self._atoms @ law) @ self.sampling.sizes))
        return [np.minimum.accumulate(np.interp(places, places[:count], own[:count])), law]

    def _distance(self, coefficients: Array) -> float:
        """Largest difference of the observed from the expected logarithms."""
        expected = self.sampling.expected(self._atoms @ coefficients).logarithms
        return float(np.abs(self._data[:-1] - expected).max())

    def _iterate(self, start: Array) -> None:
        self.coefficients = best = start
        part, before, least = 1.0, math.inf, math.inf
        for number in range(_ROUNDS + 1):
            expected, data, jacobian = self._expected()
            if number < _SAME_NOISE:
                noise, least = self._noise(expected), math.inf
            self._residual = self._data - data
            self.misfit = float(self._residual @ np.linalg.solve(noise, self._residual)) / len(data)
            best, least = (self.coefficients, self.misfit) if self.misfit < least else (best, least)
            self._linear = jacobian, noise, self._residual + jacobian @ self.coefficients
            aim, self.prior = self._solve(np.zeros(len(data)))
            settled = number > _SAME_NOISE and abs(self.misfit - before) < _SETTLED and self.misfit < least + _SETTLED
            if number == _ROUNDS or settled:
                break
            if self.misfit > 0.9 * before:
                part = max(0.25, part * 0.6)
            before = self.misfit
            step = np.clip(aim - self.coefficients, -_LARGEST_STEP, _LARGEST_STEP)
            self.coefficients = self.coefficients + part * step if number < _ROUNDS - 1 else best
        self.covariance = noise

    def _means(self, sampling: Sampling) -> Array:
        """Mean logarithms of the atoms of a sampling from those at the knots, shape (atoms, knots)."""
        return _hats(np.diff(gammaln(sampling.edges)) / sampling.sizes, self.places)  # at the mean logarithm of their ranks

    def logarithms(self, ranks: Array) -> Array:
        """Of the eigenvalues at ranks."""
        found: Array = np.interp(np.log(ranks), self.places, self.coefficients)
        return found

    def _expected(self) -> tuple[Expected, Array, Array]:
        """Expected data, the logarithm of the total variance last, and their derivatives with respect to the coefficients."""
        logarithms = self._atoms @ self.coefficients
        variances = np.exp(logarithms) * self.sampling.sizes
        total = float(variances.sum())
        expected = self.sampling.expected(logarithms)
        jacobian = np.vstack([expected.jacobian, variances / total]) @ self._atoms
        return expected, np.r_[expected.logarithms, math.log(total)], jacobian

    def _noise(self, expected: Expected) -> Array:
        """Covariance of the data: half of what couples bins is left out, since it is known less well than their own errors."""
        covariance = _definite(self.sampling.covariance(expected))
        own = np.maximum(np.diag(covariance), 0.6 / self.degrees / np.diff(self.sampling.bins) ** 1.5)
        size = len(own)
        noise = np.zeros((size + 1, size + 1))
        noise[:size, :size] = (covariance + np.diag(own)) / 2 + np.eye(size) * (0.25 / self.degrees**2 + _DISCRETE**2)
        atoms = np.exp(self._atoms @ self.coefficients)
        noise[size, size] = self.gains.second_moment * 2 * (atoms**2 @ self.sampling.sizes) / self.degrees
        return noise

    def _solve(self, deviation: Array) -> tuple[Array, Array]:
        """Coefficients, in falling order, of the problem linearised about the present ones.

        Args:
            deviation: Added to the data.

        Returns:
            Coefficients, and the part of their covariance that the prior adds.
        """
        return self.bending.fit(*self.whitened(deviation))

    def whitened(self, deviations: Array | float = 0.0) -> tuple[Array, Array]:
        """Change of each datum with each coefficient, and the data with deviations, shape (..., n), over the data's errors."""
        jacobian, noise, aim = self._linear
        root = np.linalg.cholesky(noise)
        return np.linalg.solve(root, jacobian), np.linalg.solve(root, (aim + deviations).T).T

    def moves_of(self, halves: Array, *, degrees: float, within: int) -> tuple[Array, float]:
        """How the data change with half-samples, and how far their mean is from what is expected of half of the images.

        Args:
            halves: Eigenvalues, shape (b, k).
            degrees: Degrees of freedom of a half.
            within: Rank of every half: bins beyond it are taken as they are.

        Returns:
            What each half differs from the halves' mean by, shape (b, n); and the mean squared residual of that mean, in standard
            errors, the whole sample's residual taken away.
        """
        bins = self.sampling.bins
        half = Sampling(degrees=degrees, n_features=self.units, bins=bins, gains=self.gains)
        counted = max(1, int((bins[1:] - 1 <= self._used * min(within, half.degrees)).sum()))
        shared = bins[: counted + 1]
        means = means_over_bins(halves / self.unit, shared)
        half = Sampling(degrees=degrees, n_features=self.units, bins=shared, gains=self.gains)
        expected = half.expected(self._means(half) @ self.coefficients).logarithms
        residual = means.mean(0) - expected - self._residual[:counted]
        variances = np.maximum(np.diag(self.covariance)[:counted], means.var(0, ddof=1))
        moves = np.zeros((len(halves), len(bins)))
        moves[:, :counted] = means - means.mean(0)
        totals = np.log(halves.sum(1))
        moves[:, -1] = totals - totals.mean()
        return moves, float(np.mean(residual**2 / variances))

    def moved_by(self, moves: Array) -> Array:
        """Coefficients of fits to what is expected, moved, shape (b, knots)."""
        return self.bending.curves(*self.whitened(moves - self._residual))

    def of_gains(self) -> Array:
        """Coefficients if gains differ more, by the standard error of their second moment; the same where that is not known."""
        if not self.gains.error:
            return self.coefficients
        other = Sampling(degrees=self.degrees, n_features=self.units, bins=self.sampling.bins, gains=self.gains.within_error())
        moved = np.r_[other.expected(self._atoms @ self.coefficients).logarithms, 0.0] - self._expected()[1]
        moved[-1] = 0.0
        return self._solve(-self._residual - moved)[0]

    def slope(self, window: Window) -> Array:
        """Change of a window's exponent with each coefficient, shape (knots,)."""
        ranks = np.arange(window.first, window.last + 1)
        weights: Array = slope_weights(window) @ _hats(np.log(ranks), self.places)
        return weights


def _hats(places: Array, knots: Array) -> Array:
    """Weights of the knots for functions that are linear between them, shape (places, knots)."""
    return np.stack([np.interp(places, knots, row) for row in np.eye(len(knots))], axis=1)


def _definite(covariance: Array) -> Array:
    """The nearest matrix without negative eigenvalues, which a coarse grid can leave."""
    values, vectors = np.linalg.eigh(covariance)
    nearest: Array = vectors * values.clip(0) @ vectors.T
    return nearest
