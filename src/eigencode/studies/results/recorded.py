"""A recording beside the networks of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eigencode.spectra.intervals import Interval


@dataclass(frozen=True)
class RecordedSpectrum:
    """Spectrum of a recording, as figures of studies draw it.

    Attributes:
        name: Name of the recording.
        eigenvalues: By rank, shape (k,); cross-validated ones may be negative.
        alpha: Exponent of the signal over all ranks, with its 95 % interval; NaN where it is not determined.
        neurons: Neurons of the signal, which has as many ranks; 0 where there is no signal.
        bends: Whether one exponent does not describe the signal over all its ranks.
    """

    name: str
    eigenvalues: np.ndarray
    alpha: Interval
    neurons: int
    bends: bool = False

    @property
    def shares(self) -> np.ndarray:
        """Shares of the variance, shape (k,); NaN where an eigenvalue is not positive, or all of them together are not."""
        total = self.eigenvalues.sum()
        shares = np.full(len(self.eigenvalues), np.nan)
        if total > 0:
            positive = self.eigenvalues > 0
            shares[positive] = self.eigenvalues[positive] / total
        return shares

    @property
    def exponent(self) -> str:
        """The exponent in a few words, and what it is an exponent of."""
        if not self.neurons:
            return "variance of single presentations, with noise; α not determined"
        if math.isnan(self.alpha.value):
            return "α of what repeats share not determined"
        high = f"{self.alpha.high:.2f}" if math.isfinite(self.alpha.high) else "∞"
        doubt = ", which is no power law" if self.bends else ""
        return f"α {self.alpha.value:.2f} [{self.alpha.low:.2f}, {high}] of what repeats share, by its moments{doubt}"

    @property
    def law(self) -> np.ndarray | None:
        """Shares of the power law that has the signal's exponent over all its ranks, shape (neurons,); None if there is none."""
        if not self.neurons or math.isnan(self.alpha.value):
            return None
        law = np.arange(1, self.neurons + 1, dtype=float) ** -self.alpha.value
        shares: np.ndarray = law / law.sum()
        return shares
