"""The curves that Gerum et al. 2022 published, point by point, and the same networks here."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd

from eigencode.papers.gerum2022.networks import BASELINE, networks, paired
from eigencode.papers.gerum2022.study import MODELS
from eigencode.studies.results.statistics import interval
from eigencode.studies.results.table import NotTestedError, StudyResults

_APART = 0.06
"""Distance of two exponents up to which two settings are the same: the published ones are rounded to 0.1."""


@cache
def published() -> pd.DataFrame:
    """Points of Figs 2 and 3 with panel, model, data, kind (none, fgsm, pgd), epsilon, beta, alpha, accuracy, standard_error."""
    text = files("eigencode.papers.gerum2022").joinpath("curves.csv").read_text(encoding="utf-8")
    table = pd.read_csv(StringIO(text))
    return table.assign(model=table["architecture"].map(MODELS), data=table["dataset"], kind=table["attack"].str.lower())


def beside_published(evidence: StudyResults) -> list[dict[str, Any]]:
    """Every published panel beside the networks here.

    A setting here is compared with the published one of the same beta whose exponent is nearest, if it is within the rounding
    of the published exponents.

    Returns:
        Rows with panel, what, points (compared), mean and largest (differences of mean accuracies, here minus published, in
        percentage points; the largest by its size, with its place), here (widest 95 % interval of a point here, half of it).
    """
    rows = []
    for (panel, model, data, kind, epsilon), curve in published().groupby(["panel", "model", "data", "kind", "epsilon"]):
        column = "accuracy" if kind == "none" else f"{kind} {epsilon:g}"
        try:
            table = networks(evidence, str(model), str(data))
        except NotTestedError:
            continue
        if column not in table or "alpha" not in table:
            continue
        found = _differences(table, column, curve)
        if found.empty:
            continue
        most = found.iloc[int(found["difference"].abs().to_numpy().argmax())]
        what = "accuracy" if kind == "none" else f"{str(kind).upper()} {epsilon:g}"
        rows.append(
            {
                "panel": f"Fig. {panel}",
                "what": f"{str(model).removeprefix('gerum_').replace('_', ' ')}, {data}, {what}",
                "points": len(found),
                "mean": f"{found['difference'].mean():+.2f}",
                "largest": f"{most['difference']:+.2f} (β = {most['beta']:g}, α {most['alpha']:.1f})",
                "here": f"± {found['half'].max():.2f}",
            }
        )
    return rows


def _differences(table: pd.DataFrame, column: str, curve: pd.DataFrame) -> pd.DataFrame:
    """Settings that are in both: beta, alpha, difference, and half of the interval of the mean here, in percentage points."""
    layout = paired(table, column).table
    alphas = paired(table, "alpha").table.mean()
    found = []
    for setting in list[Any](layout):
        beta, own = setting[0], curve[curve["beta"] == setting[0]]
        distance = (own["alpha"] - float(alphas.get(setting, np.nan))).abs()
        if own.empty or (setting != BASELINE and not distance.min() <= _APART):
            continue
        nearest = own.iloc[0 if setting == BASELINE else int(distance.to_numpy().argmin())]
        here = interval(layout[setting])
        found.append(
            {
                "beta": beta,
                "alpha": nearest["alpha"],
                "difference": 100 * (here.mean - nearest["accuracy"]),
                "half": 100 * (here.high - here.mean),
            }
        )
    return pd.DataFrame(found)
