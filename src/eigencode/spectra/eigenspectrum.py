"""The result of a measurement: eigenvalues with everything needed to cite them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eigencode._arguments import check_fields, checked
from eigencode._shown import Shown
from eigencode.errors import DataError, SpectrumError
from eigencode.spectra.bent import PowerLawTest, power_law_test
from eigencode.spectra.dimension import DimensionInterval, dimension_interval, participation_ratio
from eigencode.spectra.eigenvalues import (
    Numbers,
    as_numbers,
    checked_eigenvalues,
    numerical_floor,
    numerical_rank,
    positive_run,
    share_of_first,
)
from eigencode.spectra.gains import TOGETHER, Gains
from eigencode.spectra.population import PopulationSpectrum, population_spectrum
from eigencode.spectra.power_law import PowerLawFit, fit_power_law, window_sensitivity
from eigencode.spectra.resampling import GROUPS
from eigencode.spectra.traces import Traces
from eigencode.spectra.uncertainty import AlphaInterval, alpha_interval
from eigencode.spectra.window import Ranks, Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Method = Literal["covariance", "gram", "sketch", "cross-validated"]


@dataclass(frozen=True, repr=False)
class Eigenspectrum(Shown):
    """Eigenvalues of a code's covariance matrix, with sample size, method and half-samples.

    Eigenvalues that are not finite, or (unless cross-validated) negative beyond rounding or not in order, raise a SpectrumError.

    Attributes:
        eigenvalues: Largest first, float64, shape (min(n_samples, n_features),), squared activation units, divisor n - 1.
        n_samples: Samples: images, or images times positions.
        n_features: Units.
        n_images: Images.
        method: covariance (f <= n), gram (n < f), sketch (neither fitted in memory), or cross-validated (two repeats).
        dtype: Type in which the activations came.
        error_bound: Bound on the relative error of each eigenvalue; 0 unless sketched.
        scale: Largest absolute activation of the first sample, for the numerical floor.
        half_samples: Eigenvalues of random half-samples of the images, shape (b, k), or None.
        half_counts: Samples in each half.
        half_groups: Images, sets or groups of images, each of which a half has or has not.
        traces: What ``population_dimension`` needs; None of a sketch, and of files of earlier versions.
        gains: How much images differ beyond what the spectrum explains; all alike in files of earlier versions.
        name: Layer or recording.
    """

    eigenvalues: Tensor
    n_samples: int
    n_features: int
    n_images: int
    method: Method
    dtype: str = "float64"
    error_bound: float = 0.0
    scale: float = 0.0
    half_samples: Tensor | None = None
    half_counts: tuple[int, ...] = ()
    half_groups: int = GROUPS
    traces: Traces | None = None
    gains: Gains = field(default=Gains())
    name: str = "activations"

    def __post_init__(self) -> None:
        """Checks the method."""
        check_fields(self, SpectrumError, choices_only=True)
        signed = self.method == "cross-validated"
        checked_eigenvalues(self.eigenvalues, caller=self.name, signed=signed)
        if self.half_samples is not None:
            if self.half_samples.ndim != 2 or len(self.half_samples) != len(self.half_counts):
                raise SpectrumError(
                    f"{self.name}: `half_samples` must have shape (b, k) with b = {len(self.half_counts)}, the number of "
                    f"`half_counts`; got {tuple(self.half_samples.shape)}."
                )
            for half in self.half_samples:
                checked_eigenvalues(half, caller=f"{self.name}, half-sample", signed=signed)

    def _shown(self) -> dict[str, object]:
        return {
            "name": self.name,
            "images": self.n_images,
            "samples": self.n_samples if self.n_samples != self.n_images else None,
            "units": self.n_features,
            "rank": self.numerical_rank,
            "dimension_of_images": self.dimension if bool((self.eigenvalues > 0).any()) else None,
            "method": self.method,
        }

    @classmethod
    @checked(SpectrumError)
    def from_activations(
        cls,
        activations: Numbers,
        *,
        mask: Tensor | np.ndarray | None = None,
        groups: Numbers | Sequence[int] | None = None,
        half_samples: int = 20,
        seed: int = 0,
        name: str = "activations",
        memory_limit: int = 2 * 2**30,
    ) -> Eigenspectrum:
        """Eigenspectrum of activations that are already in memory.

        Args:
            activations: Shape (n_samples, ...), any float dtype; flattened into units.
            mask: For activations (n_images, n_positions, n_units): which positions are samples, shape (n_images, n_positions);
                the others, such as padding, are left out.
            groups: Numbers from 0 on of the sets of images that belong together, shape (n_images,); a half-sample has all images
                of a set or none.
            half_samples: Random half-samples kept for ``alpha_interval``; 0 for none.
            seed: Seed of the half-samples.
            name: What error messages call this code.
            memory_limit: Bytes that may be taken at any moment, beside the activations.

        Returns:
            Eigenspectrum.

        Raises:
            SpectrumError: see ``SpectrumAccumulator``.

        Example:
            >>> generator = torch.Generator().manual_seed(0)
            >>> spectrum = Eigenspectrum.from_activations(torch.randn(1000, 10, generator=generator))
            >>> spectrum.n_samples, spectrum.n_features, spectrum.numerical_rank, round(spectrum.dimension, 1)
            (1000, 10, 10, 9.9)
        """
        from eigencode.spectra.accumulator import SpectrumAccumulator

        samples = as_numbers(activations, caller=name, what="activations")
        metric = SpectrumAccumulator(
            memory_limit=memory_limit,
            half_samples=half_samples,
            positions=mask is not None,
            expected_images=len(samples) if samples.ndim and mask is None else None,
            seed=seed,
            name=name,
        )
        metric.update(samples, mask=mask, groups=groups)
        return metric.compute()

    @property
    def floor(self) -> float:
        """Numerical floor in squared activation units (see ``numerical_floor``)."""
        return numerical_floor(
            float(self.eigenvalues[0]),
            n_samples=self.n_samples,
            n_features=self.n_features,
            scale=self.scale,
            dtype=getattr(torch, self.dtype),
        )

    @property
    def numerical_rank(self) -> int:
        """Number of eigenvalues above the floor, at most n_samples - 1; cross-validated ones: see ``CrossValidatedSpectrum``."""
        if self.method == "cross-validated":
            first, last = positive_run(self.eigenvalues)
            return last - first + 1
        return numerical_rank(self.eigenvalues, floor=self.floor, n_samples=self.n_samples)

    @property
    def total_variance(self) -> float:
        """Sum of the eigenvalues, squared activation units."""
        return float(self.eigenvalues.sum())

    @property
    def dimension(self) -> float:
        """Participation ratio (Jiang et al. 2020, Eq. (4))."""
        return participation_ratio(self.eigenvalues.clamp_min(0))

    @checked(SpectrumError)
    def population_dimension(self, *, level: float = 0.95) -> DimensionInterval:
        """Dimension of the population that the images were drawn from (see :func:`eigencode.spectra.dimension_interval`).

        Args:
            level: Nominal coverage.

        Returns:
            DimensionInterval.

        Raises:
            SpectrumError: a sketch, or a file of an earlier version, does not have what is needed; or the images do not determine
                the dimension, many of them nearly the same as another among the reasons.
        """
        if self.traces is None:
            reason = "a sketch does not have" if self.method == "sketch" else "this spectrum was kept without"
            remedy = "Raise `memory_limit`" if self.method == "sketch" else "Measure it again"
            raise SpectrumError(f"{self.name}: {reason} the traces that the dimension of the population needs. {remedy}.")
        if self.gains.objection:
            raise SpectrumError(
                f"{self.name}: the dimension of the population is not determined by these {self.n_samples} samples: "
                f"{self.gains.objection}. If {TOGETHER}."
            )
        return dimension_interval(self.traces, level=level, name=self.name)

    @checked(SpectrumError)
    def variance_explained(self, k: int) -> float:
        """Fraction of the total variance in the first k components.

        Args:
            k: Number of components, at least 1.

        Returns:
            Between 0 and 1.

        Raises:
            SpectrumError: k is not a whole number of at least 1, or nothing varies.
        """
        return share_of_first(self.eigenvalues, k, name=self.name)

    @checked(SpectrumError)
    def fit(self, ranks: Ranks = "gerum", weights: Weights | None = None) -> PowerLawFit:
        """Power law over a window of ranks (see ``fit_power_law``).

        Args:
            ranks: Window, its name or text ("6-50"), or first and last rank, 1-based, inclusive. Default: gerum, 6-50.
            weights: "equal" or "inverse_rank"; default: those of the window.

        Returns:
            PowerLawFit.

        Raises:
            SpectrumError: the window goes beyond the numerical rank.
        """
        return fit_power_law(
            self.eigenvalues,
            ranks=ranks,
            weights=weights,
            rank=self.numerical_rank,
            n_samples=self.n_samples,
            n_features=self.n_features,
            method=self.method,
            name=self.name,
        )

    @checked(SpectrumError)
    def alpha_interval(self, ranks: Ranks = "gerum", *, level: float = 0.95) -> AlphaInterval:
        """Interval of the population exponent (see :func:`eigencode.spectra.alpha_interval`).

        Args:
            ranks: Window of the fit.
            level: Nominal coverage.

        Returns:
            AlphaInterval.

        Raises:
            SpectrumError: measured without half-samples, or the window goes beyond the numerical rank of half of the images.
        """
        self.fit(ranks)
        found, halves = self.population_spectrum(), self._halves()
        counts = self.half_counts
        return alpha_interval(found, halves, ranks=ranks, half_counts=counts, half_groups=self.half_groups, level=level)

    @checked(SpectrumError)
    def power_law_test(self, ranks: Ranks = "gerum", *, level: float = 0.95, relevant: float = 0.5) -> PowerLawTest:
        """Whether the population's spectrum is a power law over a window (see :func:`eigencode.spectra.power_law_test`).

        Args:
            ranks: Window.
            level: Of all intervals and of the test.
            relevant: Bend that matters.

        Returns:
            PowerLawTest.

        Raises:
            SpectrumError: as for ``alpha_interval``.
        """
        self.fit(ranks)
        found, halves = self.population_spectrum(), self._halves()
        counts, groups = self.half_counts, self.half_groups
        return power_law_test(found, halves, ranks=ranks, half_counts=counts, half_groups=groups, level=level, relevant=relevant)

    def _halves(self) -> Tensor:
        if self.half_samples is None:
            raise SpectrumError(
                f"{self.name}: no half-samples were kept, so there is no interval. Measure with half_samples=20, at least 4 "
                "images, and memory for 4 covariance matrices."
            )
        return self.half_samples

    @checked(SpectrumError)
    def population_spectrum(self) -> PopulationSpectrum:
        """Spectrum of the population that the images were drawn from (see :func:`eigencode.spectra.population_spectrum`).

        Raises:
            SpectrumError: a sketch, whose projection changes eigenvalues as sampling does; a cross-validated spectrum; fewer than
                three positive eigenvalues.
        """
        return self._population

    @cached_property
    def _population(self) -> PopulationSpectrum:
        if self.method in ("sketch", "cross-validated"):
            remedy = "Raise `memory_limit`" if self.method == "sketch" else "Use signal_spectrum"
            raise SpectrumError(f"{self.name}: no population spectrum is estimated from a {self.method} spectrum. {remedy}.")
        kept = self.eigenvalues.where(torch.arange(len(self.eigenvalues)) < self.numerical_rank, 0.0)
        return population_spectrum(kept, n_samples=self.n_samples, n_features=self.n_features, gains=self.gains, name=self.name)

    @checked(SpectrumError)
    def window_sensitivity(
        self, *, first: Iterable[int] | None = None, last: Iterable[int] | None = None, weights: Weights = "equal"
    ) -> pd.DataFrame:
        """Exponent over a grid of windows (see :func:`eigencode.spectra.window_sensitivity`).

        Args:
            first: First ranks; default: 1, 2, 5, 10, 20, ... within the rank.
            last: Last ranks; default: the same series and the rank itself.
            weights: "equal" or "inverse_rank".

        Returns:
            Table with columns first, last, alpha, stderr, r2.
        """
        rank = self.numerical_rank
        series = [m * 10**e for e in range(7) for m in (1, 2, 5) if m * 10**e < rank]
        return window_sensitivity(
            self.eigenvalues,
            first=series if first is None else first,
            last=[*series, rank] if last is None else last,
            weights=weights,
            rank=rank,
            method=self.method,
        )

    def plot(self, ax: Axes | None = None, *, ranks: Ranks | None = None) -> Axes:
        """Draws the spectrum on log-log axes, with the fitted line if ranks are given (see ``reports.plot_spectrum``)."""
        from eigencode.spectra.plotting import plot_spectrum

        return plot_spectrum(self, ax=ax, ranks=ranks)

    def save(self, path: str | Path) -> Path:
        """Writes the spectrum to a ``.npz`` or ``.parquet`` file (see ``save_spectra``)."""
        from eigencode.spectra.files import save_spectra

        return save_spectra({self.name: self}, path)

    @classmethod
    def load(cls, path: str | Path) -> Eigenspectrum:
        """Reads a file that holds one spectrum (see ``load_spectra``).

        Args:
            path: File written by ``save``.

        Returns:
            Eigenspectrum, equal to the one that was saved.

        Raises:
            DataError: the file holds several spectra, or is none of ours.
        """
        from eigencode.spectra.files import load_spectra

        spectra = load_spectra(path)
        if len(spectra) != 1:
            raise DataError(
                f"Eigenspectrum.load: {path} holds {len(spectra)} spectra ({', '.join(spectra)}). Use eigencode.load_spectra."
            )
        return next(iter(spectra.values()))
