"""The numbers one cites of a spectrum."""

from __future__ import annotations

import math
from typing import Any

from eigencode.errors import SpectrumError
from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, SignalSpectrum, Window
from eigencode.spectra.metrics import METRICS, metrics_of
from eigencode.spectra.window import Ranks


def summary_row(
    spectrum: Eigenspectrum | CrossValidatedSpectrum, ranks: Ranks = "gerum", *, level: float = 0.95
) -> dict[str, Any]:
    """The numbers one cites of a spectrum.

    Args:
        spectrum: What was measured.
        ranks: Window of the fit.
        level: Coverage of the interval.

    Returns:
        layer, units, samples, rank, method, error_bound; first_rank, last_rank, weights, alpha, stderr, r2 of the
        plain fit; alpha_population, alpha_low, alpha_high, alpha_misfit of the interval, with infinite ends where the images
        do not determine it; alpha_first, alpha_second, bend_p, break_rank, break_low, break_high, alpha_before, alpha_after and
        power_law (the answer) of ``power_law_test``; those of ``METRICS``: dimension,
        variance_first_ten (of the total), total_variance; dimension_population, dimension_low, dimension_high of the population's
        dimension; and a note that says why a number is missing, else "".
    """
    row: dict[str, Any] = {
        "layer": spectrum.name,
        "units": spectrum.n_features,
        "samples": spectrum.n_samples,
        "rank": spectrum.numerical_rank,
        "method": spectrum.method if isinstance(spectrum, Eigenspectrum) else "cross-validated",
        "error_bound": spectrum.error_bound if isinstance(spectrum, Eigenspectrum) else 0.0,
    }
    window = Window.of(ranks)
    row |= {"first_rank": window.first, "last_rank": window.last, "weights": window.weights}
    row |= dict.fromkeys(("alpha", "stderr", "r2", *_OF_POPULATION), math.nan) | {"power_law": ""}
    note = ""
    try:
        fit = spectrum.fit(window)
        row |= {"alpha": fit.alpha, "stderr": fit.stderr, "r2": fit.r2}
        if isinstance(spectrum, Eigenspectrum) and spectrum.half_samples is not None:
            numbers, note = _of_population(spectrum, window, level)
            row |= numbers
    except SpectrumError as error:
        note = str(error)
    metrics, lacking = metrics_of(spectrum)
    row |= metrics | dict.fromkeys(("dimension_population", "dimension_low", "dimension_high"), math.nan)
    if isinstance(spectrum, Eigenspectrum) and spectrum.traces is not None and not lacking:
        try:
            found = spectrum.population_dimension(level=level)
            row |= {"dimension_population": found.dimension, "dimension_low": found.low, "dimension_high": found.high}
        except SpectrumError as error:
            lacking = str(error)
    return row | {"note": " ".join(filter(None, (note, lacking)))}


_OF_POPULATION = (
    *("alpha_population", "alpha_low", "alpha_high", "alpha_misfit", "alpha_first", "alpha_second", "bend_p"),
    *("break_rank", "break_low", "break_high", "alpha_before", "alpha_after"),
)


def _of_population(spectrum: Eigenspectrum, window: Window, level: float) -> tuple[dict[str, Any], str]:
    """Exponent of the population, whether it is one over the window, and why this is not known, else ""."""
    interval, test = spectrum.alpha_interval(window, level=level), spectrum.power_law_test(window, level=level)
    numbers = (
        *(interval.alpha, interval.low, interval.high, interval.misfit, test.first.value, test.second.value, test.p),
        *(test.rank.value, test.rank.low, test.rank.high, test.before, test.after),
    )
    found = dict(zip(_OF_POPULATION, numbers, strict=True)) | {"power_law": test.answer}
    return found, interval.note or test.note


def signal_row(signal: SignalSpectrum) -> dict[str, Any]:
    """The same columns for the signal of a recording, whose exponent is that of a power law over all ranks.

    Args:
        signal: What repeats of the same stimuli share.
    """
    alpha, dimension = signal.alpha, signal.dimension
    return {
        "layer": f"{signal.name} (signal)",
        "units": signal.n_features,
        "samples": signal.n_stimuli,
        "rank": signal.n_features,
        "method": "signal moments",
        "error_bound": 0.0,
        "first_rank": 1,
        "last_rank": signal.n_features,
        "weights": "moments",
        "alpha": alpha.value,
        "stderr": math.nan,
        "r2": math.nan,
        **dict.fromkeys(_OF_POPULATION, math.nan),
        "power_law": "",
        "alpha_population": alpha.value,
        "alpha_low": alpha.low,
        "alpha_high": alpha.high,
        **{metric.name: math.nan for metric in METRICS},
        "total_variance": signal.moments.trace,
        "dimension_population": dimension.value,
        "dimension_low": dimension.low,
        "dimension_high": dimension.high,
        "note": "",
    }
