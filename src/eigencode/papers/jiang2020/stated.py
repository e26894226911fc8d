"""The numbers that Jiang et al. 2020 state, each beside what is measured here."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from scipy import stats

from eigencode.papers.jiang2020.layers import EXAMPLE, by_layer
from eigencode.papers.jiang2020.perturbed import FEWEST_STRENGTHS, STATED_SLOPES, each_curve
from eigencode.studies.results.claim import StatedNumber
from eigencode.studies.results.table import NotTestedError, StudyResults, setting


def _slope(layer: int) -> Callable[[StudyResults], pd.Series]:
    """Slope of each network's exponent against its accuracy under Gaussian noise, where the mean exponent is below 1."""

    def measure(evidence: StudyResults) -> pd.Series:
        accuracy, alpha = (
            setting(each_curve(evidence, "layer_gaussian", name), layer).unstack("seed") for name in ("accuracy", "alpha")
        )
        accuracy, alpha = accuracy.align(alpha, join="inner")
        below = (alpha.mean(axis=1) < 1) & (alpha.index > 0)
        if below.sum() < FEWEST_STRENGTHS or (accuracy[below].nunique() < 2).any():
            raise NotTestedError(f"{FEWEST_STRENGTHS} strengths at which the mean α is below 1, with accuracies that differ")
        return pd.Series({seed: stats.linregress(accuracy[seed][below], alpha[seed][below]).slope for seed in alpha})

    return measure


def _share(evidence: StudyResults) -> pd.Series:
    share = by_layer(evidence, "variance_first_ten", perturbation="unperturbed")
    return setting(share, EXAMPLE)


STATED = (
    StatedNumber(f"share of the variance in ten components, layer {EXAMPLE}", "fig3", 0.95, 1.0, _share),
    *(
        StatedNumber(f"slope dα/dA under Gaussian noise, layer {layer}", "fig6", slope, None, _slope(layer), exponents=True)
        for layer, slope in STATED_SLOPES.items()
    ),
)
