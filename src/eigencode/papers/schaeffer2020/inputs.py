"""What Schaeffer et al. 2020 find of CIFAR-10 networks that are shown other images: checks of their Figs 3 to 6."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eigencode.papers.schaeffer2020.imagenet import rise_on_imagenet
from eigencode.papers.schaeffer2020.study import LIBRARYS, NOISE_ALONE
from eigencode.perturbations.specification import MADE
from eigencode.studies.results.claim import Finding, agreed, finding
from eigencode.studies.results.refitting import fit_of
from eigencode.studies.results.statistics import Decision, Interval, Limits, interval, lowest, needed
from eigencode.studies.results.table import NotTestedError, StudyResults, table_of

_SIMILAR = 0.1
"""Difference of exponents up to which two spectra decay alike."""

_UNRESPONSIVE = 0.5
"""Rise of the exponent from images to one component up to which a network hardly responds: a fifth of the mouse's, 2.47."""

STATED_EXPONENTS = {"unperturbed 0": 1.03, "pca 8": 1.21, "pca 4": 1.20, "pca 1": 1.20, "zca 0.01": 1.51}
"""Exponents that the paper gives; of mouse V1 1.04, 1.49, 1.65, 3.51 and 1.06."""

_SAME = 0.1
"""Mean distance of two spectra over the ranks of the fit, in decades, up to which they are called the same."""

_NEAR_FOUR = (3.0, 5.0)

_SLIGHT = 1.0
"""Difference of exponents up to which sets differ slightly."""

PLAIN = {"model": "schaeffer_cnn", "covariance": 0.0, "jacobian": 0.0, "adversarial": 0.0}


def alphas(evidence: StudyResults) -> pd.DataFrame:
    """Exponents of the networks without penalties: seeds x conditions."""
    rows = evidence.select("alpha", **PLAIN)
    rows = rows[rows["perturbation"].isin(["unperturbed", "gaussian", *NOISE_ALONE, "pca", "zca"])]
    rows = rows.assign(condition=[f"{row.perturbation} {row.strength:g}" for row in rows.itertuples()])
    return table_of(rows, columns="condition")


def _change(table: pd.DataFrame, condition: str) -> pd.Series:
    if condition not in table:
        raise NotTestedError(f"networks read under {condition}")
    return (table[condition] - table["unperturbed 0"]).dropna()


def noise_on_cifar(evidence: StudyResults) -> Finding:
    """S2b: so it does on CIFAR-10, but less."""
    table = alphas(evidence)
    strongest = max(_deviations(table))
    change = interval(_change(table, f"gaussian {strongest:g}"))
    found = f"change of α under noise of {strongest:g}: {change.told(2)}"
    try:
        rise = rise_on_imagenet(evidence)
    except NotTestedError:
        if change.above().decided() is False:
            return finding(found, "above 0", False)
        raise NotTestedError(
            f"ResNet-50 on ImageNet to compare with, which schaeffer2020.fig3_imagenet reads; here {found}"
        ) from None
    return finding(f"{found}; on ImageNet {rise:+.2f}", "above 0, and below that on ImageNet", change.above(), change.below(rise))


def pure_noise(evidence: StudyResults) -> Finding:
    """S2c: noise alone gives the slope of noisy images, whatever its mean."""
    readings = []
    for mean, apart in _from_noisy_images(alphas(evidence)):
        delta = max(apart, key=lambda each: abs(apart[each].mean))
        found = f"{apart[delta].told(2)} (mean {mean:g}, δ = {delta:g})"
        limits = (each.within(_SIMILAR) for each in apart.values())
        readings.append(finding(found, f"within {_SIMILAR:g} at every δ", *limits))
    both = agreed(readings, "the mean of the noise")
    return replace(both, found=f"largest difference of α from noisy images: {both.found}")


def intercept_of_noise(evidence: StudyResults) -> Finding:
    """S2d: but another intercept."""
    if (window := evidence.fit_window) is None:
        raise NotTestedError("networks read over the same ranks")
    spectra = evidence.spectra
    spectra = spectra[spectra["perturbation"].isin(["gaussian", *NOISE_ALONE])]
    for name, value in PLAIN.items():
        spectra = spectra[spectra[name] == value]
    conditions = [f"{row.perturbation} {row.strength:g}" for row in spectra.itertuples()]
    fits = [fit_of(row, window) for row in spectra.to_dict("records")]
    intercepts = [np.nan if fit is None else fit.intercept / np.log(10) for fit in fits]
    readings = []
    for mean, apart in _from_noisy_images(table_of(spectra.assign(condition=conditions, value=intercepts), columns="condition")):
        delta = min(apart, key=lambda each: abs(apart[each].mean))
        found = f"{apart[delta].told(2)} (mean {mean:g}, δ = {delta:g})"
        limits = (each.above(_SAME) if each.mean > 0 else each.below(-_SAME) for each in apart.values())
        readings.append(finding(found, f"further than {_SAME:g} decades at every δ", *limits))
    both = agreed(readings, "the mean of the noise")
    return replace(both, found=f"smallest difference of the intercept from noisy images, decades: {both.found}")


def _from_noisy_images(table: pd.DataFrame) -> Iterator[tuple[float, dict[float, Interval]]]:
    """How far numbers under noise alone are from those of noisy images, for each δ; with the mean of the noise, for each mean.

    Raises:
        NotTestedError: noise of a mean or a strength was not shown.
    """
    both = [name.removeprefix("gaussian ") for name in map(str, table) if name.startswith("gaussian ")]
    for kind, mean in NOISE_ALONE.items():
        if not both or any(f"{kind} {delta}" not in table for delta in both):
            raise NotTestedError(f"networks that are shown noise alone of mean {mean:g}, and noisy images")
        yield mean, {float(delta): interval(table[f"{kind} {delta}"] - table[f"gaussian {delta}"]) for delta in both}


def _deviations(table: pd.DataFrame) -> list[float]:
    """Standard deviations of noise under which networks were read.

    Raises:
        NotTestedError: they were not read under noise, or not without.
    """
    found = [float(str(name).split()[1]) for name in table if str(name).startswith("gaussian ")]
    if not found or "unperturbed 0" not in table:
        raise NotTestedError("networks read under noise, and without")
    return found


def exponents(evidence: StudyResults) -> Finding:
    """S3a: the exponents that the paper gives."""
    table = _of_components(evidence)
    decisions = [interval(table[name] - paper).within(_SIMILAR) for name, paper in STATED_EXPONENTS.items()]
    found = ", ".join(f"{interval(table[name]).mean:.2f} ({paper})" for name, paper in STATED_EXPONENTS.items())
    widest = max(STATED_EXPONENTS, key=lambda name: abs(table[name].mean() - STATED_EXPONENTS[name]))
    found += f"; furthest, {widest}: {interval(table[widest]).told(2)}"
    return finding(found, f"every exponent within {_SIMILAR:g} of the paper's, in brackets", *decisions)


def _of_components(evidence: StudyResults) -> pd.DataFrame:
    table = needed(alphas(evidence), "networks without penalties")
    missing = [name for name in STATED_EXPONENTS if name not in table]
    if missing:
        raise NotTestedError(f"networks read under {', '.join(missing)}")
    return table


def hardly_responds(evidence: StudyResults) -> Finding:
    """S3b: the exponent hardly depends on the number of components."""
    rise = interval(_change(_of_components(evidence), "pca 1"))
    test = f"within {_UNRESPONSIVE:g}, a fifth of the mouse's 2.47 (the paper's network 0.17)"
    return finding(f"α on one component minus α on images: {rise.told(2)}", test, rise.within(_UNRESPONSIVE))


def _sets(evidence: StudyResults, **where: Any) -> pd.DataFrame:
    """Exponents on the four data sets: one row for each kind of network and seed."""
    rows = evidence.select("alpha", perturbation=list(MADE), **where)
    if set(rows["perturbation"]) != set(MADE):
        raise NotTestedError("networks read on all four data sets")
    table = table_of(rows, index=["trained", "seed"], columns="perturbation")[list(MADE)]
    return needed(table, "networks read on all four data sets")


def _made_here(evidence: StudyResults, found: Finding) -> Finding:
    """The finding; of sets that were made here, beside the verdict on them."""
    if (evidence.cells["model"] == LIBRARYS).any():
        return found
    return found.of_a_substitute("the released sets", "sets made here by this network")


def all_above_one(evidence: StudyResults) -> Finding:
    """S4a: exponents above 1 on all four sets."""
    own = {name: interval(values) for name, values in _sets(evidence, **PLAIN).items()}
    which, least = lowest(own)
    found = finding(f"smallest α ({which}) {least.told(2)}", "above 1 on all four", *(each.above(1) for each in own.values()))
    return _made_here(evidence, found)


def identical(evidence: StudyResults) -> Finding:
    """S4b: one spectrum on all four sets."""
    _sets(evidence, **PLAIN)
    window, spectra = fitted_ranks(evidence), evidence.spectra
    plain = evidence.select("alpha", perturbation=list(MADE), **PLAIN)["network"]
    spectra = spectra[spectra["perturbation"].isin(MADE) & spectra["network"].isin(plain)]
    apart = []
    for _, own in spectra.groupby("network"):
        logs = [log_spectrum(values, window) for values in own["eigenvalues"]]
        apart.append(max(float(np.mean(np.abs(first - second))) for first in logs for second in logs))
    distance = interval(apart)
    test = f"below {_SAME:g} decades over ranks {window[0]}-{window[1]}"
    return _made_here(
        evidence, finding(f"largest distance of two spectra {distance.told(2, unit='decades')}", test, distance.below(_SAME))
    )


def _of_robustness(check: Callable[[pd.DataFrame], Finding]) -> Callable[[StudyResults], Finding]:
    """A check of exponents on the four sets: of the library's networks, or of this CNN trained in their place."""

    def checked(evidence: StudyResults) -> Finding:
        released = bool((evidence.cells["model"] == LIBRARYS).any())
        model = LIBRARYS if released else PLAIN["model"]
        table = _sets(evidence, model=model, covariance=0.0, jacobian=0.0)
        if table.index.get_level_values("trained").nunique() < 2:
            raise NotTestedError("networks trained adversarially, read on all four data sets")
        found = check(table)
        read = evidence.select("total_variance", perturbation=list(MADE), model=model, covariance=0.0, jacobian=0.0)
        if left_out := read["network"].nunique() - len(table):
            found = replace(
                found, found=f"{found.found}; {left_out} {'network has' if left_out == 1 else 'networks have'} no exponent"
            )
        return found if released else found.of_a_substitute("the Robustness ResNet-50s", "this CNN")

    return checked


def _is_near_four(values: pd.Series) -> Limits | Decision:
    """Whether a network's mean exponent is near 4; of a single released one, by its value."""
    own = interval(values)
    return own.between(*_NEAR_FOUR) if own.count > 1 else _NEAR_FOUR[0] < own.mean < _NEAR_FOUR[1]


_NEAR_FOUR_SAID = f"between {_NEAR_FOUR[0]:g} and {_NEAR_FOUR[1]:g}"


@_of_robustness
def near_four(table: pd.DataFrame) -> Finding:
    """S5a: exponents near 4."""
    own = {str(trained): values.mean(axis=1) for trained, values in table.groupby("trained")}
    means = {trained: float(values.mean()) for trained, values in own.items()}
    furthest = max(means, key=lambda trained: abs(means[trained] - 4))
    found = f"mean α {interval(own[furthest]).told(2)} ({furthest}, the furthest)"
    return finding(found, _NEAR_FOUR_SAID, *(_is_near_four(values) for values in own.values()))


@_of_robustness
def near_four_untrained(table: pd.DataFrame) -> Finding:
    """S5b: so it is without adversarial training."""
    zero = [trained for trained in table.index.get_level_values("trained").unique() if _is_usual(trained)]
    if not zero:
        raise NotTestedError("networks trained without an attack, read on all four data sets")
    values = table[table.index.get_level_values("trained") == zero[0]].mean(axis=1)
    return finding(f"mean α of the sets at ε = 0: {interval(values).told(2)}", _NEAR_FOUR_SAID, _is_near_four(values))


def _is_usual(trained: str) -> bool:
    """Whether the name of a network's training, "l2 0" or the file of released weights, says that it was not attacked."""
    return trained.split()[-1] == "0" or Path(trained).stem.endswith("_nat")


@_of_robustness
def slightly_different(table: pd.DataFrame) -> Finding:
    """S5c: exponents differ a little between sets."""
    differences = interval(table.max(axis=1) - table.min(axis=1))
    found = f"largest difference of α between sets {differences.told(2)}"
    return finding(found, f"between 0 and {_SLIGHT:g}", differences.between(0, _SLIGHT))


def fitted_ranks(evidence: StudyResults) -> tuple[int, int]:
    """First and last rank over which networks were read."""
    if evidence.fitted is None:
        raise NotTestedError("networks read over the same ranks")
    return evidence.fitted


def log_spectrum(values: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Log10 of the eigenvalues of the window, of rounding error at least."""
    first, last = window
    shown: np.ndarray = np.log10(np.maximum(values[first - 1 : last], values[0] * np.finfo(float).eps))
    return shown
