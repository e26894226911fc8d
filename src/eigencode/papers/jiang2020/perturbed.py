"""What Jiang, Zhou & Huang 2020 find of layers whose input is perturbed: checks of their Figs 6 to 8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from eigencode.papers.jiang2020.layers import DEEP, deep_layers
from eigencode.papers.jiang2020.study import WIDTH, dimension_of, number_of
from eigencode.spectra.dimension import power_law_dimension
from eigencode.studies.results.claim import Finding, finding
from eigencode.studies.results.statistics import (
    Decision,
    Interval,
    highest,
    interval,
    jackknife,
    kleene_and,
    kleene_not,
    kleene_or,
    lowest,
    needed,
    rank_correlation,
)
from eigencode.studies.results.table import NotTestedError, StudyResults, setting, single

FEWEST_STRENGTHS = 3
"""Strengths that make a line."""

_ROUGHLY = 0.25
"""Relative deviation up to which two numbers agree roughly."""

_WEAK = 1.0
"""Strengths up to this one are called weak."""

_A_PEAK = 0.01
"""Height above the unperturbed value from which a curve has a peak."""

_SHOWN = (0.0, 0.5, 3.0)
"""Strengths of Fig. 8 b and c."""

_RISES = {"accuracy": 0.002, "alpha": 0.01}
"""Rises from one strength of noise to the next up to which a curve falls monotonically."""

_LINEAR = 0.99
"""R² from which one quantity is linear in another."""

STATED_SLOPES = {1: 0.56, 2: 0.86, 3: 1.04}


def each_curve(evidence: StudyResults, kind: str, quantity: str) -> pd.DataFrame:
    """(Seeds, strengths) x layers of the networks that were perturbed; strength 0 is these networks unperturbed."""
    perturbed = evidence.select("accuracy", perturbation=kind, width=WIDTH)
    if perturbed["seed"].nunique() < 2:
        raise NotTestedError("perturbed networks, 2 at least")
    rows = evidence.select(quantity, perturbation=["unperturbed", kind], network=list(perturbed["network"]))
    rows = single(rows, "seed", "perturbation", "strength", "layer")
    table = rows.pivot_table(index=["seed", "strength"], columns="layer", values="value").rename(columns=number_of)
    return table.sort_index(axis=1)


def falls(quantity: str) -> Callable[[StudyResults], Finding]:
    """J6a, J6b: whether a quantity falls with the strength of noise."""

    def check(evidence: StudyResults) -> Finding:
        curves = each_curve(evidence, "layer_gaussian", quantity)
        falls, rises = dict[Any, Interval](), dict[Any, Interval]()
        for layer in list[Any](curves.dropna(axis=1, how="all")):
            own = curves[layer].unstack("strength").sort_index(axis=1).dropna(axis=1, how="all")
            if own.shape[1] < 2:
                continue
            falls[layer] = interval(own.iloc[:, 0] - own.iloc[:, -1])
            rises |= {(layer, strength): interval(step) for strength, step in own.diff(axis=1).iloc[:, 1:].items()}
        if not falls:
            raise NotTestedError(f"{quantity} of perturbed networks at two strengths at least")
        layer, least = lowest(falls)
        (rising, strength), most = max(rises.items(), key=lambda each: each[1].mean)
        found = f"smallest fall to the last ε, layer {layer}: {least.text()}; largest rise, layer {rising} to ε = {strength:g}: "
        found += most.told(4)
        test = f"every layer falls, and no rise from one ε to the next reaches {_RISES[quantity]:g}"
        limits = [*(fall.above() for fall in falls.values()), *(rise.below(_RISES[quantity]) for rise in rises.values())]
        return finding(found, test, *limits)

    return check


def robust_over_depth(evidence: StudyResults) -> Finding:
    """J6c: deeper layers keep more accuracy under noise."""
    rows = evidence.select("accuracy", perturbation="layer_gaussian", width=WIDTH)
    areas = rows.pivot_table(index="seed", columns="layer", values="value", aggfunc="mean").rename(columns=number_of)
    deeper = rank_correlation(needed(areas.sort_index(axis=1), "perturbed networks"))
    ends = areas.sort_index(axis=1).mean()
    found = (
        f"rank correlation with depth of the accuracy averaged over ε: {deeper.told(2)} ({ends.iloc[0]:.2f} at layer 1, "
        f"{ends.iloc[-1]:.2f} at the last)"
    )
    return finding(found, "above 0", deeper.above())


def _lines(evidence: StudyResults) -> dict[int, tuple[Interval, Interval]]:
    """Layer -> slope dα/dA and R² of the means over networks at strengths with mean α below 1, of layers with three at least."""
    curves = [each_curve(evidence, "layer_gaussian", name) for name in ("accuracy", "alpha")]
    mean_alpha = curves[1].groupby("strength").mean()
    found: dict[int, tuple[Interval, Interval]] = {}
    for layer in list[Any](curves[0]):
        below = mean_alpha.index[(setting(mean_alpha, layer) < 1) & (mean_alpha.index > 0)]
        if len(below) < FEWEST_STRENGTHS:
            continue
        accuracy, alpha = (setting(curve, layer).unstack("seed").reindex(below) for curve in curves)
        if (accuracy.nunique() < 2).any():  # a network that has collapsed
            continue

        columns = accuracy.to_numpy(), alpha.reindex(columns=accuracy.columns).to_numpy()

        def fit(some: list[int], columns: tuple[np.ndarray, ...] = columns) -> Any:
            return stats.linregress(*(each[:, some].mean(axis=1) for each in columns))

        networks = range(accuracy.shape[1])
        slope = jackknife(lambda some, fit=fit: fit(some).slope, networks)  # type: ignore[misc]
        found[layer] = slope, jackknife(lambda some, fit=fit: fit(some).rvalue ** 2, networks)  # type: ignore[misc]
    return found


def _first_three(evidence: StudyResults) -> dict[int, tuple[Interval, Interval]]:
    lines = _lines(evidence)
    if not set(STATED_SLOPES) <= set(lines):
        raise NotTestedError("strengths at which the mean α of layers 1, 2 and 3 is below 1, three for each")
    return {layer: lines[layer] for layer in STATED_SLOPES}


def linear(evidence: StudyResults) -> Finding:
    """J7a: α is linear in accuracy in the first three layers."""
    determined = {layer: line[1] for layer, line in _first_three(evidence).items()}
    layer, least = lowest(determined)
    test = f"R² of α against accuracy above {_LINEAR:g} in layers 1 to 3, at strengths with α below 1 (jackknife over networks)"
    return finding(f"smallest R², layer {layer}: {least.told(4)}", test, *(each.above(_LINEAR) for each in determined.values()))


def slopes(evidence: StudyResults) -> Finding:
    """J7b: slopes of these lines."""
    own = {layer: line[0] for layer, line in _first_three(evidence).items()}
    found = ", ".join(f"{slope.text(2)} (paper {STATED_SLOPES[layer]})" for layer, slope in own.items())
    near = [
        slope.between((1 - _ROUGHLY) * stated, (1 + _ROUGHLY) * stated)
        for slope, stated in zip(own.values(), STATED_SLOPES.values(), strict=True)
    ]
    return finding(f"{found}, n = {own[1].count}", f"each within {_ROUGHLY:.0%} of the paper's", *near)


def not_linear_beyond(evidence: StudyResults) -> Finding:
    """J7c: no such line in deeper layers."""
    curves = each_curve(evidence, "layer_gaussian", "alpha")
    later = {layer: line[1] for layer, line in _lines(evidence).items() if layer > DEEP}
    test = f"every layer beyond the third stays above α of 1, or has R² below {_LINEAR:g} (jackknife over networks)"
    stay = {layer: _third_lowest(curves[layer]) for layer in deep_layers(curves) if layer > DEEP and layer not in later}
    limits = [*(each.below(_LINEAR) for each in later.values()), *(each.above(1) for each in stay.values())]
    if not limits:
        raise NotTestedError(f"layers beyond layer {DEEP} under noise")
    found = []
    if stay:
        layer, least = lowest(stay)
        found.append(f"{len(stay)} of {len(limits)} layers stay, the lowest α that makes a line {least.told(2)} (layer {layer})")
    if later:
        layer, most = highest(later)
        found.append(f"largest R² {most.told(4)} (layer {layer})")
    return finding("; ".join(found), test, *limits)


def _third_lowest(curve: pd.Series) -> Interval:
    """Of a layer's exponents over strengths, that which is third from below by its mean: with it three would make a line."""
    table = curve.unstack("strength").dropna(axis=1, how="all")
    if table.shape[1] < FEWEST_STRENGTHS:
        raise NotTestedError(f"exponents at {FEWEST_STRENGTHS} strengths")
    return interval(table[table.mean().sort_values().index[FEWEST_STRENGTHS - 1]])


@dataclass(frozen=True)
class _Peak:
    """Where a layer's mean α is highest among weak ε.

    Attributes:
        epsilon: There.
        gain: Of α over ε = 0.
        fall: From there to the last ε.
        is_highest: Whether the whole curve is highest there.
        family: Places among which those of all layers were chosen.
    """

    epsilon: Any
    gain: Interval
    fall: Interval
    is_highest: bool
    family: int

    @property
    def is_there(self) -> Decision:
        """Whether there is a peak, at a level that holds for all layers and strengths together."""
        limits = self.gain.widened(self.family).above(_A_PEAK), self.fall.widened(self.family).above()
        return kleene_and(self.is_highest, *(limit.decided() for limit in limits))


def _peaks(evidence: StudyResults, kind: str) -> dict[Any, _Peak]:
    """Each layer's highest α among weak ε."""
    curves = each_curve(evidence, kind, "alpha")
    mean = curves.groupby("strength").mean()
    weak = mean[(mean.index > 0) & (mean.index <= _WEAK)].dropna(axis=1, how="all")
    if weak.empty:
        raise NotTestedError(f"networks perturbed with ε up to {_WEAK:g}")
    found: dict[Any, _Peak] = {}
    for layer in list[Any](weak):
        epsilon: Any = weak[layer].idxmax()
        own = curves[layer].unstack("strength").dropna()
        gain = interval(setting(own, epsilon) - setting(own, 0.0))
        fall = interval(own[epsilon] - own[own.columns.max()])
        found[layer] = _Peak(epsilon, gain, fall, mean[layer].idxmax() == epsilon, weak.size)
    return found


def _any_peak(peaks: dict[Any, _Peak]) -> Decision:
    return kleene_or(*(peak.is_there for peak in peaks.values()))


def _told_peak(peaks: dict[Any, _Peak]) -> str:
    layer, peak = max(peaks.items(), key=lambda each: each[1].gain.mean)
    return f"largest gain of α over ε = 0: {peak.gain.told()}, at ε = {peak.epsilon:g}, layer {layer}"


def peak_against_strength(evidence: StudyResults) -> Finding:
    """J8a: α has a peak at weak ε."""
    peaks = _peaks(evidence, "layer_fgsm")
    test = f"α of some layer is highest at ε up to {_WEAK:g}, {_A_PEAK:g} above ε = 0, and falls; level 5 % for all layers and ε"
    return finding(_told_peak(peaks), test, _any_peak(peaks))


def peak_against_accuracy(evidence: StudyResults) -> Finding:
    """J8b: the peak lies below the highest accuracy."""
    peaks, curves = _peaks(evidence, "layer_fgsm"), each_curve(evidence, "layer_fgsm", "accuracy")
    seen = [layer for layer, peak in peaks.items() if peak.is_there]
    if not seen:
        return finding(f"no layer certainly has a peak against ε; {_told_peak(peaks)}", "a peak", _any_peak(peaks))
    layer = max(seen, key=lambda each: peaks[each].gain.mean)
    own = curves[layer].unstack("strength")
    price = interval(own[0.0] - own[peaks[layer].epsilon])
    found = f"accuracy lost from ε = 0 to the peak of α, layer {layer}: {price.told(2, 100, 'percentage points')}"
    return finding(found, "above 0: α is highest below the highest accuracy", price.above())


def no_peak_under_noise(evidence: StudyResults) -> Finding:
    """J8c: noise makes no peak."""
    peaks = _peaks(evidence, "layer_gaussian")
    test = f"in no layer does α rise by {_A_PEAK:g} up to ε of {_WEAK:g}"
    return finding(_told_peak(peaks), test, kleene_not(_any_peak(peaks)))


def dimension_agrees(kind: str, size: int) -> Callable[[StudyResults], Finding]:
    """J9: whether D of the perturbed codes is D(α) of so many dimensions."""

    def check(evidence: StudyResults) -> Finding:
        quantity = dimension_of(evidence)
        first, second = (each_curve(evidence, kind, name) for name in ("alpha", quantity))
        curves = list(first.align(second, join="inner"))
        if not set(_SHOWN) <= set(curves[0].index.get_level_values("strength")):
            raise NotTestedError("networks perturbed with ε of 0.5 and 3")

        def median(some: list[Any]) -> float:
            alpha, measured = (curve.loc[some].groupby("strength").mean().reindex(_SHOWN).to_numpy() for curve in curves)
            theory = np.vectorize(lambda value: np.nan if np.isnan(value) else power_law_dimension(value, size))(alpha)
            return float(np.nanmedian(np.abs(measured / theory - 1)))

        deviation = jackknife(median, sorted(set(curves[0].index.get_level_values("seed"))))
        of = "images" if quantity == "dimension" else "population"
        found = f"median deviation of D of the {of} from Eq. (5) with N = {size}: {deviation.told(0, 100, '%')}"
        test = f"below {_ROUGHLY:.0%}, over layers and ε of 0, 0.5 and 3 (jackknife over networks)"
        return finding(found, test, deviation.below(_ROUGHLY))

    return check
