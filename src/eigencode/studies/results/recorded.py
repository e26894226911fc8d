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
        alpha: Exponent with its 95 % interval; NaN where it is not determined.
        estimator: What the exponent is of, and how it is estimated.
    """

    name: str
    eigenvalues: np.ndarray
    alpha: Interval
    estimator: str

    @property
    def shares(self) -> np.ndarray:
        """Shares of the variance, shape (k,); NaN where an eigenvalue is not positive."""
        shares: np.ndarray = np.where(self.eigenvalues > 0, self.eigenvalues, np.nan) / self.eigenvalues.sum()
        return shares

    @property
    def exponent(self) -> str:
        """The exponent in a few words."""
        if math.isnan(self.alpha.value):
            return "α not determined"
        high = f"{self.alpha.high:.2f}" if math.isfinite(self.alpha.high) else "∞"
        return f"α {self.alpha.value:.2f} [{self.alpha.low:.2f}, {high}]"

    @property
    def told(self) -> str:
        """Name and exponent in a few words."""
        return f"{self.name}, {self.exponent}"

    @property
    def law(self) -> np.ndarray | None:
        """Shares of the power law that has the exponent and all of the variance, shape (k,); None where there is no exponent."""
        if math.isnan(self.alpha.value):
            return None
        law = np.arange(1, len(self.eigenvalues) + 1, dtype=float) ** -self.alpha.value
        shares: np.ndarray = law / law.sum()
        return shares
