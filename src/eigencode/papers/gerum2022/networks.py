"""The networks of Gerum et al. 2022 as a table, and what its findings compare in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from eigencode.papers.gerum2022.study import EPSILONS
from eigencode.studies.results.statistics import Interval, Paired, interval
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


def deviations_of(table: pd.DataFrame, column: str) -> pd.Series:
    """Standard deviation over networks of each setting."""
    return table.groupby(["beta", "target"])[column].std()


def in_words(values: pd.Series, digits: int = 3) -> str:
    """Values with their targets in brackets."""
    return ", ".join(f"{value:.{digits}f} ({target:g})" for target, value in values.items())


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


def differences_of(layout: Paired, beta: float, targets: list[float], base: float | None = None) -> dict[float, Interval]:
    """Of each target: networks with one beta minus those with another, or minus the baseline."""
    return {target: layout.difference((beta, target), BASELINE if base is None else (base, target)) for target in targets}


def told_of(differences: dict[float, Interval], digits: int = 3) -> str:
    """Intervals with their targets in brackets."""
    return ", ".join(f"{each.text(digits)} ({target:g})" for target, each in differences.items())


TESTS = "differences are paired over seeds"


@dataclass(frozen=True)
class Best:
    """Where a quantity has its best.

    Attributes:
        beta: Of the setting whose mean is largest.
        alpha: Its mean exponent.
        mean: Its mean.
        ahead: How far the best of the settings that are named is ahead of the best of all others.
        place: Exponent at which each seed's networks are best: mean and interval.
    """

    beta: float
    alpha: float
    mean: Interval
    ahead: Interval
    place: Interval

    @classmethod
    def of(cls, table: pd.DataFrame, column: str, named: Callable[[float, float], bool]) -> Best:
        """Best of a quantity; settings are named by beta and mean exponent.

        Raises:
            NotTestedError: a setting has no exponent, or there is none of those named.
        """
        table = table.assign(target=table["target"].where(table["beta"] > 0, 0.0))
        alphas = table.groupby(["beta", "target"])["alpha"].mean()
        if alphas.isna().any():
            raise NotTestedError("an exponent of every kind of network")
        layout = Paired.of(table, ["beta", "target"], column)
        best = layout.best(layout.table)
        ahead = layout.lead(setting for setting, alpha in alphas.items() if named(setting[0], alpha))  # type: ignore[index]
        place = interval(where_best(table, column))
        return cls(float(best[0]), float(alphas[best]), interval(layout.table[best]), ahead, place)

    def text(self, digits: int = 3) -> str:
        """Its mean, and of which networks."""
        return f"{self.mean.text(digits)} at β = {self.beta:g}, α {self.alpha:.2f}"


def where_best(table: pd.DataFrame, column: str) -> pd.Series:
    """Exponents at which seeds' networks are best, of the seeds that have every setting."""
    whole = table[table["seed"].isin(Paired.of(table, ["beta", "target"], column).table.index)]
    best: pd.Series = whole.loc[whole.groupby("seed")[column].idxmax(), "alpha"]
    return best
