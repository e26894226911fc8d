"""The networks of Gerum et al. 2022 as a table, and what its findings compare in it."""

from __future__ import annotations

import math

import pandas as pd

from eigencode.papers.gerum2022.study import EPSILONS
from eigencode.studies.results.statistics import Paired
from eigencode.studies.results.table import NotTestedError, StudyResults, single

WEAK, STRONG = 0.1, 1.0
"""Strengths of the penalty, as the paper calls them."""


def networks(evidence: StudyResults, model: str, data: str = "mnist", *, form: str = "exponent") -> pd.DataFrame:
    """One row for each network: seed, beta, target, alpha (last epoch's batches), accuracy, and fgsm and pgd at each strength.

    Raises:
        NotTestedError: no baseline, or no regularised network.
    """
    where = {"model": model, "data": data, "form": form}
    if evidence.select("accuracy", **where).empty:
        raise NotTestedError(f"networks {model} on {data}")
    clean = (("alpha", evidence.alpha_condition), ("accuracy", "held_out"))
    parts = [evidence.select(name, perturbation=condition, **where).assign(column=name) for name, condition in clean]
    attacked = evidence.select("accuracy", perturbation=["fgsm", "pgd"], **where)
    parts.append(attacked.assign(column=[f"{row.perturbation} {row.strength:g}" for row in attacked.itertuples()]))
    rows = single(pd.concat(parts), "seed", "beta", "target", "column")
    table = rows.pivot_table(index=["seed", "beta", "target"], columns="column", values="value").reset_index()
    if lacking := [name for name, _ in clean if name not in table]:
        raise NotTestedError(f"networks {model} on {data} with their {' and '.join(lacking)}")
    seeds = table.groupby(["beta", "target"])["seed"].nunique()
    targets = {beta: set(table[table["beta"] == beta]["target"]) for beta in (WEAK, STRONG)}
    if 0 not in set(table["beta"]) or not targets[WEAK] or targets[WEAK] != targets[STRONG] or seeds.min() < 2:
        raise NotTestedError(
            f"networks {model} on {data}: a baseline, weak and strong ones of the same targets, two seeds of each"
        )
    return table


def targets_of(table: pd.DataFrame, low: float, high: float = math.inf, *, around: bool = False) -> list[float]:
    """Targets from low to high.

    Raises:
        NotTestedError: there are none, or, where a best one is to be found among them, none around them.
    """
    every = sorted(set(table[table["beta"] > 0]["target"]))
    found = [target for target in every if low <= target <= high]
    if not found:
        raise NotTestedError(f"networks with a target from {low:g}" + (f" to {high:g}" if high < math.inf else ""))
    if around and (every[0] >= low or every[-1] <= high):
        raise NotTestedError(f"networks with targets below {low:g} and above {high:g}")
    return found


def means_of(table: pd.DataFrame, beta: float, quantity: str) -> pd.Series:
    """Mean over networks of each target, at one strength."""
    return table[table["beta"] == beta].groupby("target")[quantity].mean()


def attack_column(table: pd.DataFrame, kind: str, model: str) -> str:
    """Column of an attack at the strength that the figures use."""
    column = f"{kind} {EPSILONS[model]:g}"
    if column not in table:
        raise NotTestedError(f"networks attacked by {kind} at {EPSILONS[model]:g}")
    return column


def paired(table: pd.DataFrame, column: str) -> Paired:
    """Values of every network, by seed and (beta, target); those of the baseline at (0, 0)."""
    return Paired.of(table.assign(target=table["target"].where(table["beta"] > 0, 0.0)), ["beta", "target"], column)


BASELINE = (0.0, 0.0)


def alphas_of(table: pd.DataFrame) -> pd.Series:
    """Mean exponent of each (beta, target); of the baseline at (0, 0).

    Raises:
        NotTestedError: a setting has none.
    """
    table = table.assign(target=table["target"].where(table["beta"] > 0, 0.0))
    alphas = table.groupby(["beta", "target"])["alpha"].mean()
    if alphas.isna().any():
        raise NotTestedError("an exponent of every kind of network")
    return alphas


def where_best(table: pd.DataFrame, column: str) -> pd.Series:
    """Exponents at which seeds' networks are best, of the seeds that have every setting."""
    whole = table[table["seed"].isin(Paired.of(table, ["beta", "target"], column).table.index)]
    best: pd.Series = whole.loc[whole.groupby("seed")[column].idxmax(), "alpha"]
    return best
