"""The findings of Schaeffer et al. 2020, as checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from eigencode.papers.schaeffer2020.study import LIBRARYS, NEED_FILES
from eigencode.perturbations.specification import MADE
from eigencode.studies.results.claim import Claim, Finding, finding
from eigencode.studies.results.statistics import (
    Decision,
    Interval,
    correlation,
    interval,
    kleene_and,
    needed,
    rank_correlation,
    spread,
)
from eigencode.studies.results.table import NotTestedError, StudyResults, setting, single, table_of

_SIMILAR = 0.1
"""Difference of exponents up to which two spectra decay alike."""

_WEAK_RELATION = 0.5
"""Rank correlation below which two quantities are called unrelated; few networks cannot show that there is no relation at all."""

_RELATED = {True: "no relation", False: "a relation", None: "undecided"}

STATED_EXPONENTS = {"unperturbed 0": 1.03, "pca 8": 1.21, "pca 4": 1.20, "pca 1": 1.20, "zca 0.01": 1.51}
"""Exponents that the paper gives; of mouse V1 1.04, 1.49, 1.65, 3.51 and 1.06."""


_SAME = 0.1
"""Mean distance of two spectra over the ranks of the fit, in decades, up to which they are called the same."""

_NEAR_FOUR = (3.0, 5.0)

_IMAGENET_NETWORKS = 11

PLAIN = {"model": "schaeffer_cnn", "covariance": 0.0, "jacobian": 0.0, "adversarial": 0.0}


def alphas(evidence: StudyResults) -> pd.DataFrame:
    """Exponents of the networks without penalties: seeds x conditions."""
    rows = evidence.select("alpha", **PLAIN)
    rows = rows[rows["perturbation"].isin(["unperturbed", "gaussian", "pure_noise", "pca", "zca"])]
    rows = rows.assign(condition=[f"{row.perturbation} {row.strength:g}" for row in rows.itertuples()])
    return table_of(rows, columns="condition")


def _change(table: pd.DataFrame, condition: str) -> pd.Series:
    if condition not in table:
        raise NotTestedError(f"networks read under {condition}")
    return (table[condition] - table["unperturbed 0"]).dropna()


def _s2(evidence: StudyResults) -> Finding:
    here, there = _on_cifar(evidence), _on_imagenet(evidence)
    if here is None and there is None:
        raise NotTestedError("networks read under noise, and without")
    parts, tests = list[str](), list[str]()
    decisions = list[Decision]()
    if here is None:
        parts.append("CIFAR-10: not tested")
    else:
        alpha, changes, pure = here
        parts.append(
            f"CIFAR-10: α {alpha.mean():.2f} unperturbed; change under noise of "
            + ", ".join(f"{delta:g}: {change.text(2)}" for delta, change in changes.items())
            + "; pure noise minus noisy images "
            + ", ".join(f"{delta:g}: {more.text(2)}" for delta, more in pure.items())
        )
        decisions += [changes[max(changes)].above(), *(more.within(_SIMILAR) for more in pure.values())]
        tests.append(
            f"CIFAR-10: the strongest noise raises α, and pure noise has the α of images with as much noise, within {_SIMILAR:g}"
        )
    if there is None:
        parts.append("ImageNet: not tested, needs its images, which schaeffer2020.fig3_imagenet reads")
    else:
        images, noise = there
        rise, most = images.iloc[-1] - images.iloc[0], noise.max() - images.max()
        parts.append(
            f"ResNet-50 on ImageNet: α {images.iloc[0]:.2f}, with the strongest noise {rise:+.2f}; steepest of pure noise minus "
            f"steepest of noisy images {most:+.2f}"
        )
        decisions += [bool(rise > _SIMILAR), bool(most > 0)]
        tests.append(f"ImageNet: α rises by more than {_SIMILAR:g}, and is highest for pure noise (one pretrained network)")
        if here is not None:
            decisions.append(here[1][max(here[1])].below(rise))
            tests.append("it changes less on CIFAR-10")
    missing = here is None or there is None or not here[2]
    return finding("; ".join(parts), "; ".join(tests), *decisions, untested=missing)


def _on_cifar(evidence: StudyResults) -> tuple[pd.Series, dict[float, Interval], dict[float, Interval]] | None:
    """Exponents unperturbed; by standard deviation, their change under noise, and pure noise minus noisy images."""
    table = alphas(evidence)
    noises = [str(name) for name in table if str(name).startswith("gaussian ")]
    if not noises or "unperturbed 0" not in table:
        return None
    changes = {float(name.split()[1]): _change(table, name) for name in noises}
    pure = {
        delta: _change(table, f"pure_noise {delta:g}") - change
        for delta, change in changes.items()
        if f"pure_noise {delta:g}" in table
    }
    return (
        table["unperturbed 0"],
        {delta: interval(change) for delta, change in changes.items()},
        {delta: interval(more) for delta, more in pure.items()},
    )


def _on_imagenet(evidence: StudyResults) -> tuple[pd.Series, pd.Series] | None:
    """Exponents of the one ImageNet network that is read under noise, by standard deviation: noisy images, and noise alone."""
    rows = evidence.select("alpha", model="torchvision:resnet50")
    images = rows[rows["perturbation"].isin(["unperturbed", "gaussian"])].set_index("strength")["value"].sort_index()
    noise = rows[rows["perturbation"] == "pure_noise"].set_index("strength")["value"]
    return None if len(images) < 2 or noise.empty else (images, noise)


def _s3(evidence: StudyResults) -> Finding:
    table = needed(alphas(evidence), "networks without penalties")
    missing = [name for name in STATED_EXPONENTS if name not in table]
    if missing:
        raise NotTestedError(f"networks read under {', '.join(missing)}")
    found = ", ".join(f"{name} {interval(table[name]).text(2)} (paper {paper})" for name, paper in STATED_EXPONENTS.items())
    decisions = [interval(table[name] - paper).within(_SIMILAR) for name, paper in STATED_EXPONENTS.items()]
    return finding(found, f"every exponent within {_SIMILAR:g} of the paper's", *decisions)


def _s1(evidence: StudyResults) -> Finding:
    rows = evidence.select("alpha", perturbation="unperturbed")
    rows = rows[rows["model"].astype(str).str.startswith("torchvision:")]
    alpha = single(rows, "model").set_index("model")["value"].sort_values(ascending=False)
    if alpha.empty:
        raise NotTestedError(NEED_FILES["fig2"])
    errors = evidence.select("stderr", perturbation="unperturbed").groupby("model")["value"].max().reindex(alpha.index)
    found = ", ".join(
        f"{str(name).removeprefix('torchvision:')} {value:.2f} ± {error:.2f}"
        for (name, value), error in zip(alpha.items(), errors, strict=True)
    )
    test = (
        "all eleven exponents above 1, faster than the bound, as the text of section 3.1 says (± the standard error of the fit; "
        "pretrained networks are one of each kind)"
    )
    if len(alpha) < _IMAGENET_NETWORKS:
        raise NotTestedError(f"all eleven networks; so far {found}")
    return finding(found, test, bool((alpha > 1).all()))


def _sets(evidence: StudyResults, **where: Any) -> pd.DataFrame:
    """Exponents on the four data sets: one row for each kind of network and seed."""
    rows = evidence.select("alpha", perturbation=list(MADE), **where)
    if set(rows["perturbation"]) != set(MADE):
        raise NotTestedError("networks read on all four data sets")
    table = table_of(rows, index=["trained", "seed"], columns="perturbation")[list(MADE)]
    return needed(table, "networks read on all four data sets")


def _s4(evidence: StudyResults) -> Finding:
    table, window = _sets(evidence, **PLAIN), _window(evidence)
    spectra = evidence.spectra
    plain = evidence.select("alpha", perturbation=list(MADE), **PLAIN)["network"]
    spectra = spectra[spectra["perturbation"].isin(MADE) & spectra["network"].isin(plain)]
    apart = []
    for _, own in spectra.groupby("network"):
        logs = [_logs(values, window) for values in own["eigenvalues"]]
        apart.append(max(float(np.mean(np.abs(first - second))) for first in logs for second in logs))
    distance = interval(apart)
    released = bool((evidence.cells["model"] == LIBRARYS).any())
    which = "the released sets" if released else "sets made here by this network, in place of the released ones"
    found = (
        f"{which}; α {', '.join(f'{name} {interval(table[name]).text(2)}' for name in table)}; "
        f"spectra at most {distance.text(2)} decades apart"
    )
    test = f"every exponent above 1, spectra less than {_SAME:g} decades apart over ranks {window[0]}-{window[1]}"
    return finding(found, test, *(interval(table[name]).above(1) for name in table), distance.below(_SAME))


def _s5(evidence: StudyResults) -> Finding:
    released = bool((evidence.cells["model"] == LIBRARYS).any())
    where: dict[str, Any] = {"model": LIBRARYS if released else PLAIN["model"], "covariance": 0.0, "jacobian": 0.0}
    table = _sets(evidence, **where)
    if table.index.get_level_values("trained").nunique() < 2:
        raise NotTestedError("networks trained adversarially, read on all four data sets")
    means = table.groupby("trained").mean()
    differences = interval(table.max(axis=1) - table.min(axis=1))
    found = "; ".join(f"{trained}: " + ", ".join(f"{value:.2f}" for value in row) for trained, row in means.iterrows())
    which = "the Robustness library's ResNet-50s" if released else "this CNN trained here, in place of the library's ResNet-50s"
    found = f"{which}; α on {', '.join(MADE)}: {found}; {spread(table.groupby('trained').std(), 2)}; "
    found += f"largest difference between sets {differences.text(2)}"
    read = evidence.select("total_variance", perturbation=list(MADE), **where).groupby("trained")["seed"].nunique().to_dict()
    short = {trained: count - len(table[table.index.get_level_values("trained") == trained]) for trained, count in read.items()}
    named = ", ".join(f"{trained} ({missing} of {read[trained]})" for trained, missing in short.items() if missing)
    if named:
        found += f"; networks whose code has no variance left at the last rank of the fit on one of the sets at least: {named}"
    low, high = _NEAR_FOUR
    own = [interval(part.mean(axis=1)) for _, part in table.groupby("trained")]
    test = f"every exponent between {low:g} and {high:g}, also without adversarial training; the sets differ by less than 1"
    alone = [each for each in own if each.count < 2]
    near: list[Decision] = [kleene_and(each.above(low), each.below(high)) for each in own if each.count > 1]
    near += [low < each.mean < high for each in alone if released]
    return finding(found, test, *near, differences.below(1), untested=bool(alone) and not released)


def _s6(evidence: StudyResults) -> Finding:
    where: dict[str, Any] = {"perturbation": "unperturbed", "model": "schaeffer_cnn", "jacobian": 0.0, "adversarial": 0.0}
    tables = {name: evidence.table(name, columns="covariance", **where) for name in ("alpha", "total_variance")}
    alpha = needed(tables["alpha"], "networks without Jacobian penalties")
    if 0.0 not in alpha or alpha.shape[1] < 2:
        raise NotTestedError("networks with covariance penalties, and without")
    slopes = {strength: interval(alpha[strength] - setting(alpha, 0.0)) for strength in list[Any](alpha) if strength}
    largest = max(slopes)
    variance = tables["total_variance"].map(np.log10)
    shrinks = interval(setting(variance, largest) - setting(variance, 0.0))
    below = interval(_decades_below(evidence, largest, where))
    shown = ", ".join(f"{interval(alpha[strength]).text(2)} (c1 = {strength})" for strength in alpha)
    found = (
        f"α {shown}; at the largest c1 α changes by {slopes[largest].text(2)}, the eigenvalues of the window by {below.text(2)} "
        f"decades on average, the total variance by {shrinks.text(2)} decades"
    )
    test = "α, the eigenvalues and the total variance are lower with the largest c1 than without (paired over seeds)"
    return finding(found, test, slopes[largest].below(), below.below(), shrinks.below())


def _decades_below(evidence: StudyResults, covariance: float, where: dict[str, Any]) -> list[float]:
    """Mean difference of log eigenvalues of the window, penalised minus not, of each seed."""
    spectra = evidence.spectra
    for name, value in where.items():
        spectra = spectra[spectra[name] == value]
    logs = {(row["seed"], row["covariance"]): _logs(row["eigenvalues"], _window(evidence)) for row in spectra.to_dict("records")}
    both = [seed for seed, own in logs if own == covariance and (seed, 0.0) in logs]
    return [float(np.mean(logs[seed, covariance] - logs[seed, 0.0])) for seed in both]


def _window(evidence: StudyResults) -> tuple[int, int]:
    if evidence.fitted is None:
        raise NotTestedError("networks read over the same ranks")
    return evidence.fitted


def _logs(values: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Log10 of the eigenvalues of the window, of rounding error at least."""
    first, last = window
    shown: np.ndarray = np.log10(np.maximum(values[first - 1 : last], values[0] * np.finfo(float).eps))
    return shown


def under_attack(evidence: StudyResults) -> pd.DataFrame:
    """Networks with penalties under PGD, of the strength at which their mean is nearest to half of the clean accuracy.

    Networks that all fail, or all stand, say nothing.

    Returns:
        One row for each network, with jacobian_kind, jacobian, covariance, seed, strength, alpha, and value, the accuracy.

    Raises:
        NotTestedError: none was attacked, or they differ in something else.
    """
    rows = evidence.select("accuracy", perturbation="pgd", model="schaeffer_cnn", adversarial=0.0)
    clean = evidence.select("accuracy", perturbation="held_out", network=list(rows["network"]))["value"].mean()
    if rows.empty or pd.isna(clean):
        raise NotTestedError("networks attacked by PGD")
    means = rows.groupby("strength")["value"].mean()
    rows = rows[rows["strength"] == (means - clean / 2).abs().idxmin()]
    rows = single(rows, "seed", "jacobian_kind", "jacobian", "covariance")
    return evidence.with_alpha(rows, "unperturbed")


def _with_strength(own: pd.DataFrame) -> Interval:
    """Rank correlation of accuracy with the strength of the Jacobian penalty, of each seed and c1: mean and interval.

    Raises:
        NotTestedError: fewer than three strengths or two seeds, or no spread.
    """
    table = own.pivot_table(index=["seed", "covariance"], columns="jacobian", values="value").dropna()
    if table.shape[1] < 3 or len(table) < 2:
        raise NotTestedError("networks with three strengths at least, and two seeds")
    return rank_correlation(table)


def _s7(evidence: StudyResults) -> Finding:
    table = under_attack(evidence)
    parts, sizes = [f"PGD with ε = {table['strength'].iloc[0]:.3f}"], {}
    for kind in ("column_sum", "exact", "projected"):
        own = table[(table["jacobian_kind"] == kind) | (table["jacobian"] == 0)]
        if kind != "column_sum" and (own["jacobian"] == 0).all():
            parts.append(f"{kind}: no networks")
            continue
        sizes[kind] = _with_strength(own)
        means = own[own["covariance"] == 0].groupby("jacobian")["value"].mean()
        shown = ", ".join(f"{value:.3f} (c2 = {c})" for c, value in means.items())
        related = _RELATED[sizes[kind].within(_WEAK_RELATION)]
        parts.append(f"{kind}: {shown}, rank correlation with c2 {sizes[kind].text(2)} (n = {sizes[kind].count}): {related}")
    deviations = table.groupby(["jacobian_kind", "covariance", "jacobian"])["value"].std()
    best = table[table["jacobian_kind"] == "column_sum"].groupby(["covariance", "jacobian"])["value"].mean()
    most: Any = best.idxmax()
    parts.append(f"most accurate with c1 = {most[0]}, c2 = {most[1]}: {best.max():.3f} (paper: c1 = 0.01, c2 = 0)")
    parts.append(spread(deviations))
    test = (
        f"rank correlation of accuracy under PGD with c2, within each seed and c1, between -{_WEAK_RELATION:g} and "
        f"{_WEAK_RELATION:g} for the column sums, which the authors used"
    )
    return finding("; ".join(parts), test, sizes["column_sum"].within(_WEAK_RELATION))


def _s8(evidence: StudyResults) -> Finding:
    attacked = under_attack(evidence)
    table = attacked.dropna(subset="alpha")
    means = table.groupby(["jacobian_kind", "covariance", "jacobian"])[["alpha", "value"]].mean()
    size = correlation(means["alpha"], means["value"])
    text = f"rank correlation of accuracy under PGD (ε = {table['strength'].iloc[0]:.3f}) with α {size.text(2)}"
    lost = len(attacked) - len(table)
    text += f", {len(means)} settings, {len(table)} networks" + (f" ({lost} more have no exponent)" if lost else "")
    test = f"rank correlation over settings, with Fisher's interval, between -{_WEAK_RELATION:g} and {_WEAK_RELATION:g}"
    return finding(text, test, size.within(_WEAK_RELATION))


CLAIMS = (
    Claim(
        "S1",
        "fig2",
        "All eleven ImageNet networks decay faster than the bound of about 1 (section 3.1; below it, says the caption).",
        _s1,
    ),
    Claim(
        "S2",
        "fig3",
        "Noise makes the spectrum steeper, on ImageNet most of all noise alone; less on CIFAR-10, where noise alone gives the "
        "slope of noisy images.",
        _s2,
        ("fig3_imagenet",),
    ),
    Claim(
        "S3",
        "fig4",
        "CIFAR-10: α 1.03; 1.21, 1.20, 1.20 on 8, 4, 1 components; 1.51 on whitened images "
        "(mouse V1: 1.04; 1.49, 1.65, 3.51; 1.06).",
        _s3,
        window="own",
    ),
    Claim("S4", "fig5", "The four robust / non-robust data sets give the same spectrum, all slopes above 1.", _s4, ("released",)),
    Claim(
        "S5",
        "fig6",
        "Adversarially trained networks decay with slopes near 4, also at ε = 0, and differ a little between the sets.",
        _s5,
        ("released",),
        window="own",
    ),
    Claim("S6", "fig7", "Covariance penalisation lowers α and the whole spectrum.", _s6),
    Claim(
        "S7",
        "fig7",
        "Jacobian penalisation shows no relation with adversarial accuracy; open: with the true Frobenius norm.",
        _s7,
        window="none",
    ),
    Claim("S8", "fig8", "Adversarial accuracy does not follow α.", _s8),
)
