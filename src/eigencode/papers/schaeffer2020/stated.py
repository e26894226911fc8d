"""The numbers that Schaeffer et al. 2020 state, each beside what is measured here."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from eigencode.papers.schaeffer2020.inputs import PLAIN, STATED_EXPONENTS, alphas
from eigencode.studies.results.claim import StatedNumber
from eigencode.studies.results.table import NotTestedError, StudyResults, setting


def _exponent(condition: str) -> Callable[[StudyResults], pd.Series]:
    return lambda evidence: setting(alphas(evidence), condition)


def _accuracy(evidence: StudyResults) -> pd.Series:
    rows = evidence.select("accuracy", perturbation="training", **PLAIN)
    if rows.empty:
        raise NotTestedError("networks without penalties")
    return rows.groupby("seed")["value"].mean()  # one network may be there twice, with penalties of another kind and no weight


_INPUTS = {"unperturbed 0": "test images", "zca 0.01": "whitened images"}

STATED = (
    *(
        StatedNumber(
            f"α on {_INPUTS.get(name, name.replace('pca', 'principal components:'))}",
            "fig4",
            value,
            None,
            _exponent(name),
            exponents=True,
        )
        for name, value in STATED_EXPONENTS.items()
    ),
    StatedNumber("accuracy without penalties (of which images is not said; here, of training)", "fig7", 0.92, None, _accuracy),
)
