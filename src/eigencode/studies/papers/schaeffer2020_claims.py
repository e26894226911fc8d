"""The findings of Schaeffer et al. 2020, as checks."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from eigencode.studies.claims import Claim, Finding, NotTestedError, interval, verdict
from eigencode.studies.evidence import Evidence

_SIMILAR = 0.1
"""Difference of exponents up to which two spectra decay alike."""

_PAPERS = {"unperturbed 0": 1.03, "pca 8": 1.21, "pca 4": 1.20, "pca 1": 1.20, "zca 0.01": 1.51}
"""Exponents that the paper gives; of mouse V1 1.04, 1.49, 1.65, 3.51 and 1.06."""


def _alphas(evidence: Evidence) -> pd.DataFrame:
    """Exponents of the networks without penalties: seeds x conditions."""
    rows = evidence.select("alpha", model="schaeffer_cnn", covariance=0.0, jacobian=0.0)
    rows = rows[rows["perturbation"].isin(["unperturbed", "gaussian", "pure_noise", "pca", "zca"])]
    rows = rows.assign(condition=[f"{row.perturbation} {row.strength:g}" for row in rows.itertuples()])
    return rows.pivot_table(index="seed", columns="condition", values="value")


def _change(table: pd.DataFrame, condition: str) -> pd.Series:
    if condition not in table:
        raise NotTestedError(f"networks read under {condition}")
    return (table[condition] - table["unperturbed 0"]).dropna()


def _s2(evidence: Evidence) -> Finding:
    table = _alphas(evidence)
    noisy = [name for name in table if str(name).startswith(("gaussian", "pure_noise"))]
    if not noisy:
        raise NotTestedError("networks read under noise")
    changes = {str(name): interval(_change(table, str(name))) for name in noisy}
    found = f"CIFAR-10: α {table['unperturbed 0'].mean():.2f} unperturbed; change " + ", ".join(
        f"{name} {change.text(2)}" for name, change in changes.items()
    )
    steepest = max(table[noisy].mean().items(), key=lambda pair: pair[1])[0]
    moved = any(abs(change.mean) > _SIMILAR for change in changes.values())
    test = f"some noise changes α by more than {_SIMILAR:g}, and pure noise is steepest (CIFAR-10 alone)"
    return Finding(verdict(moved, str(steepest).startswith("pure_noise")), found, test)


def _s3(evidence: Evidence) -> Finding:
    means = _alphas(evidence).mean()
    missing = [name for name in _PAPERS if name not in means]
    if missing:
        raise NotTestedError(f"networks read under {', '.join(missing)}")
    found = ", ".join(f"{name} {means[name]:.2f} (paper {paper})" for name, paper in _PAPERS.items())
    differences = {name: abs(means[name] - paper) for name, paper in _PAPERS.items()}
    return Finding(verdict(max(differences.values()) < _SIMILAR), found, f"every exponent within {_SIMILAR:g} of the paper's")


def _s1(evidence: Evidence) -> Finding:
    raise NotTestedError("the ImageNet networks' weights and images, which are downloads")


def _s4(evidence: Evidence) -> Finding:
    raise NotTestedError("the data sets of Ilyas et al., which are downloads, or constructed ones")


def _s5(evidence: Evidence) -> Finding:
    raise NotTestedError("the Robustness library's networks, which are downloads")


def _s6(evidence: Evidence) -> Finding:
    rows = evidence.select("alpha", perturbation="unperturbed", model="schaeffer_cnn", jacobian=0.0)
    total = evidence.select("total_variance", perturbation="unperturbed", model="schaeffer_cnn", jacobian=0.0)
    alpha = rows.pivot_table(index="seed", columns="covariance", values="value")
    variance = total.pivot_table(index="seed", columns="covariance", values="value")
    if alpha.shape[1] < 2:
        raise NotTestedError("networks with covariance penalties")
    slopes = {strength: interval(alpha[strength] - alpha[0.0]) for strength in alpha if strength}
    shrinks = variance.iloc[:, -1].mean() / variance.iloc[:, 0].mean()
    shown = ", ".join(f"{value:.2f} (c1 = {strength})" for strength, value in alpha.mean().items())
    largest = list(slopes.values())[-1]
    found = f"α {shown}, change at the largest c1 {largest.text(2)}; total variance there {shrinks:.2g} of that without"
    lower = all(change.mean < 0 for change in slopes.values()) and largest.high < 0
    return Finding(verdict(lower, shrinks < 1), found, "α and the total variance fall with c1")


def _robust(evidence: Evidence) -> pd.DataFrame:
    """One row for each network: jacobian_kind, jacobian, covariance, alpha, accuracy under the strongest PGD."""
    rows = evidence.select("accuracy", perturbation="pgd", model="schaeffer_cnn")
    if rows.empty:
        raise NotTestedError("networks attacked by PGD")
    rows = rows[rows["strength"] == rows["strength"].max()]
    alpha = evidence.select("alpha", perturbation="unperturbed").set_index("cell")["value"]
    attacked: pd.DataFrame = rows.assign(alpha=rows["cell"].map(alpha))
    return attacked


def _s7(evidence: Evidence) -> Finding:
    table = _robust(evidence)
    parts, related = [], {}
    for kind, own in table[table["covariance"] == 0].groupby("jacobian_kind"):
        base = table[(table["covariance"] == 0) & (table["jacobian"] == 0)]
        both = pd.concat([base, own[own["jacobian"] > 0]])
        if both["jacobian"].nunique() < 2:
            continue
        found = stats.spearmanr(both["jacobian"], both["value"])
        related[str(kind)] = found.pvalue < 0.05
        means = both.groupby("jacobian")["value"].mean()
        parts.append(f"{kind}: {', '.join(f'{value:.3f} (c2 = {c})' for c, value in means.items())}, p {found.pvalue:.2g}")
    if set(related) != {"column_sum", "exact", "projected"}:
        raise NotTestedError("networks with all three Jacobian penalties")
    test = "no rank correlation of accuracy under PGD with c2 (p > 0.05) for the column sums, which the authors used"
    return Finding(verdict(not related["column_sum"]), "; ".join(parts), test)


def _s8(evidence: Evidence) -> Finding:
    table = _robust(evidence).dropna(subset="alpha")
    if len(table) < 5:
        raise NotTestedError("five attacked networks at least")
    found = stats.spearmanr(table["alpha"], table["value"])
    text = f"rank correlation of accuracy under PGD with α {found.statistic:.2f} (p {found.pvalue:.2g}, {len(table)} networks)"
    return Finding(verdict(found.pvalue > 0.05), text, "no rank correlation (p > 0.05)")


CLAIMS = (
    Claim("S1", "fig3", "All eleven ImageNet networks decay slower or faster than the bound as stated there.", _s1),
    Claim("S2", "fig3", "Noise changes shape and slope; steepest for pure noise; smaller changes on CIFAR-10.", _s2),
    Claim("S3", "fig4", "CIFAR-10: α 1.03; 1.21, 1.20, 1.20 on 8, 4, 1 components; 1.51 on whitened images.", _s3),
    Claim("S4", "fig4", "The four robust / non-robust data sets give the same spectrum, all slopes above 1.", _s4),
    Claim("S5", "fig4", "The Robustness ResNet-50s decay with slopes near 4.", _s5),
    Claim("S6", "fig7", "Covariance penalisation lowers α and the whole spectrum.", _s6),
    Claim("S7", "fig7", "Jacobian penalisation shows no relation with adversarial accuracy.", _s7),
    Claim("S8", "fig8", "Adversarial accuracy does not follow α.", _s8),
)
