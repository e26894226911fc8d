"""What Schaeffer et al. 2020 find of networks trained with penalties: checks of their Figs 7 and 8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from eigencode.papers.schaeffer2020.inputs import fitted_ranks, log_spectrum
from eigencode.studies.results.claim import Finding, finding
from eigencode.studies.results.statistics import Interval, correlation, interval, needed, rank_correlation
from eigencode.studies.results.table import NotTestedError, StudyResults, single

_CHANCE = 0.2
"""Accuracy without an attack up to which a network of ten classes has collapsed: twice that of guesses."""

_WEAK_RELATION = 0.5
"""Rank correlation below which two quantities are called unrelated; few networks cannot show that there is no relation at all."""


_PENALISED: dict[str, Any] = {"perturbation": "unperturbed", "model": "schaeffer_cnn", "jacobian": 0.0, "adversarial": 0.0}


def _covariances(evidence: StudyResults) -> tuple[pd.DataFrame, Any]:
    """Exponents, seeds x strengths of the covariance penalty; and the largest strength."""
    alpha = needed(evidence.table("alpha", columns="covariance", **_PENALISED), "networks without Jacobian penalties")
    if 0.0 not in alpha or alpha.shape[1] < 2:
        raise NotTestedError("networks with covariance penalties, and without")
    return alpha, max(list[Any](alpha))


def lowers_alpha(evidence: StudyResults) -> Finding:
    """S6a: the covariance penalty lowers the exponent."""
    alpha, largest = _covariances(evidence)
    change = interval(alpha[largest] - alpha[0.0])
    return finding(f"α at c1 = {largest:g} minus at 0: {change.told(2)}", "below 0 (paired over seeds)", change.below())


def below_one(evidence: StudyResults) -> Finding:
    """S6b: it lowers it below 1."""
    alpha, largest = _covariances(evidence)
    own = interval(alpha[largest])
    return finding(f"α at c1 = {largest:g}: {own.told(2)}", "below 1", own.below(1))


def lowers_spectrum(evidence: StudyResults) -> Finding:
    """S6c: it lowers the eigenvalues."""
    _, largest = _covariances(evidence)
    below = interval(_decades_below(evidence, largest, _PENALISED))
    found = f"eigenvalues of the window at c1 = {largest:g} minus at 0: {below.told(2, unit='decades')}"
    return finding(found, "below 0, mean over the window (paired over seeds)", below.below())


def _decades_below(evidence: StudyResults, covariance: float, where: dict[str, Any]) -> list[float]:
    """Mean difference of log eigenvalues of the window, penalised minus not, of each seed."""
    spectra = evidence.spectra
    for name, value in where.items():
        spectra = spectra[spectra[name] == value]
    logs = {
        (row["seed"], row["covariance"]): log_spectrum(row["eigenvalues"], fitted_ranks(evidence))
        for row in spectra.to_dict("records")
    }
    both = [seed for seed, own in logs if own == covariance and (seed, 0.0) in logs]
    return [float(np.mean(logs[seed, covariance] - logs[seed, 0.0])) for seed in both]


def under_attack(evidence: StudyResults) -> pd.DataFrame:
    """Networks with penalties under PGD, of the strength at which their mean is nearest to half of the clean accuracy.

    Networks that all fail, or all stand, say nothing.

    Returns:
        One row for each network, with jacobian_kind, jacobian, covariance, seed, strength, alpha, value, the accuracy, and clean,
        that without an attack.

    Raises:
        NotTestedError: none was attacked, or they differ in something else.
    """
    rows = evidence.select("accuracy", perturbation="pgd", model="schaeffer_cnn", adversarial=0.0)
    held_out = evidence.select("accuracy", perturbation="held_out", network=list(rows["network"]))
    clean = held_out.drop_duplicates("network").set_index("network")["value"]
    if rows.empty or clean.isna().all():
        raise NotTestedError("networks attacked by PGD")
    means = rows.groupby("strength")["value"].mean()
    rows = rows[rows["strength"] == (means - clean.mean() / 2).abs().idxmin()]
    rows = single(rows, "seed", "jacobian_kind", "jacobian", "covariance")
    return evidence.with_alpha(rows, "unperturbed").assign(clean=rows["network"].map(clean))


def _with_strength(own: pd.DataFrame) -> Interval:
    """Rank correlation of accuracy with the strength of the Jacobian penalty, of each seed and c1: mean and interval.

    Raises:
        NotTestedError: fewer than three strengths or two seeds, or no spread.
    """
    table = own.pivot_table(index=["seed", "covariance"], columns="jacobian", values="value").dropna()
    if table.shape[1] < 3 or len(table) < 2:
        raise NotTestedError("networks that classify at three strengths at least, and two seeds")
    return rank_correlation(table)


def unrelated(kind: str) -> Callable[[StudyResults], Finding]:
    """S7: whether accuracy under attack is unrelated to the strength of one kind of Jacobian penalty."""

    def check(evidence: StudyResults) -> Finding:
        table = under_attack(evidence)
        own = table[(table["jacobian_kind"] == kind) | (table["jacobian"] == 0)]
        if (own["jacobian"] == 0).all():
            raise NotTestedError(f"networks with the Jacobian penalty {kind}")
        size = _with_strength(own[own["clean"] > _CHANCE])
        found = f"rank correlation of accuracy under PGD (ε = {table['strength'].iloc[0]:.3f}) with c2: {size.told(2)}"
        test = f"within {_WEAK_RELATION:g}, over each seed and c1"
        return finding(found, test, size.within(_WEAK_RELATION))

    return check


def does_not_follow(evidence: StudyResults) -> Finding:
    """S8: accuracy under attack does not follow the exponent."""
    attacked = under_attack(evidence)
    table = attacked.dropna(subset="alpha")
    means = table.groupby(["jacobian_kind", "covariance", "jacobian"])[["alpha", "value"]].mean()
    size = correlation(means["alpha"], means["value"])
    text = f"rank correlation of accuracy under PGD (ε = {table['strength'].iloc[0]:.3f}) with α: {size.told(2)} settings"
    lost = len(attacked) - len(table)
    text += f" ({lost} networks have no exponent)" if lost else ""
    return finding(text, f"within {_WEAK_RELATION:g} (Fisher's interval)", size.within(_WEAK_RELATION))
