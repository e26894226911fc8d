"""Kept spectra -> exponents over other ranks than the study's, with nothing trained or measured again."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from eigencode.errors import SpectrumError, StudyError
from eigencode.spectra import PowerLawFit, Window, fit_power_law
from eigencode.spectra.eigenvalues import numerical_rank

_FITTED = ("alpha", "alpha_stderr", "r2", "stderr")
_WHERE = ["cell", "layer", "perturbation", "strength"]


def fit_of(row: Any, window: Window) -> PowerLawFit | None:
    """The power law of a kept spectrum over a window; None if these ranks do not all lie above rounding error.

    Args:
        row: Of ``Store.spectra``: eigenvalues, floor, n_samples.
        window: Window of the fit.
    """
    values = torch.from_numpy(row["eigenvalues"].copy())
    rank = numerical_rank(values, floor=row["floor"], n_samples=row["n_samples"])
    try:
        return fit_power_law(values, ranks=window, rank=rank)
    except SpectrumError:
        return None


def refitted(results: pd.DataFrame, spectra: pd.DataFrame, window: Window) -> tuple[pd.DataFrame, int]:
    """Results with the exponents that the kept spectra have over other ranks.

    Exponents of which no spectrum is kept (over training, of subsets of the stimuli) are left out: they are over other ranks.

    Args:
        results: Tidy results, as of ``Store.results``.
        spectra: Spectra, as of ``Store.spectra``.
        window: Of the fits.

    Returns:
        Results, and the number of spectra that do not have these ranks above rounding error.

    Raises:
        StudyError: no spectrum has these ranks above rounding error.
    """
    found, unreached = [], 0
    for row in spectra.to_dict("records"):
        if (fit := fit_of(row, window)) is None:
            unreached += 1
            continue
        numbers = {"alpha": fit.alpha, "r2": fit.r2, "stderr": fit.stderr}
        found += [{name: row[name] for name in _WHERE} | {"quantity": name, "value": value} for name, value in numbers.items()]
    if not found:
        why = "no spectrum of the finished cells reaches so far" if len(spectra) else "the finished cells have no kept spectrum"
        raise StudyError(f"ranks {window}: {why}. Choose others.")
    last = results.groupby("cell")["epoch"].max().rename("epoch")
    fits = pd.DataFrame(found).merge(last, on="cell")
    return pd.concat([results[~results["quantity"].isin(_FITTED)], fits[list(results)]], ignore_index=True), unreached
