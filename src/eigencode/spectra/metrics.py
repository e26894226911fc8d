"""The numbers of a spectrum that need no fit: one list, which summaries, tables, studies and reports read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from eigencode.errors import SpectrumError
from eigencode.spectra.cross_validated import CrossValidatedSpectrum
from eigencode.spectra.eigenspectrum import Eigenspectrum
from eigencode.spectra.entropy import effective_rank, stable_rank


@dataclass(frozen=True)
class Metric:
    """One number of a spectrum.

    Attributes:
        name: Column of summaries, and quantity of a study's results.
        of: Spectrum -> number. ``eigenvalues``, ``n_samples`` and ``n_features`` are there for spectra of layers and for
            cross-validated ones of recordings, whose eigenvalues may be negative.
        heading: Column of the tables that are printed and drawn on pages; None if it is not in them.
        format: How it is written there.
    """

    name: str
    of: Callable[[Eigenspectrum | CrossValidatedSpectrum], float]
    heading: str | None = None
    format: str = "{:.3f}"


def _within_rank(measure: Callable[[Tensor], float]) -> Callable[[Eigenspectrum | CrossValidatedSpectrum], float]:
    """The number of eigenvalues within the numerical rank, since roots of rounding errors would add up.

    NaN where nothing varies, and for cross-validated spectra: the positive half of their noise would count.
    """

    def of(spectrum: Eigenspectrum | CrossValidatedSpectrum) -> float:
        if isinstance(spectrum, CrossValidatedSpectrum) or not spectrum.numerical_rank:
            return math.nan
        return measure(spectrum.eigenvalues[: spectrum.numerical_rank])

    return of


METRICS = (
    Metric("dimension", lambda spectrum: spectrum.dimension, "D", "{:.1f}"),
    Metric("variance_first_ten", lambda spectrum: spectrum.variance_explained(10), "first 10", "{:.1%}"),
    Metric("total_variance", lambda spectrum: spectrum.total_variance),
    Metric("effective_rank", _within_rank(effective_rank)),
    Metric("effective_rank_singular", _within_rank(lambda values: effective_rank(values, of="singular values"))),
    Metric("stable_rank", _within_rank(stable_rank)),
)
"""In the order of the columns; docs/conventions.md has their formulas and sources."""


def metrics_of(spectrum: Eigenspectrum | CrossValidatedSpectrum) -> tuple[dict[str, float], str]:
    """All of ``METRICS``.

    Args:
        spectrum: What was measured.

    Returns:
        Name -> number, NaN where the spectrum has none; and why numbers are missing, else "".
    """
    numbers: dict[str, float] = {}
    reasons: list[str] = []
    for metric in METRICS:
        try:
            numbers[metric.name] = metric.of(spectrum)
        except SpectrumError as error:
            numbers[metric.name] = math.nan
            reasons.append(str(error))
    return numbers, " ".join(reasons)
