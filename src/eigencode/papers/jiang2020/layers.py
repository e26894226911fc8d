"""What Jiang, Zhou & Huang 2020 find of layers as they are: checks of their Figs 2 to 5."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from eigencode.papers.jiang2020.study import WIDTH, number_of
from eigencode.studies.results.claim import Finding, finding
from eigencode.studies.results.statistics import MONOTONE, Interval, interval, jackknife, lowest, needed, rank_correlation
from eigencode.studies.results.table import NotTestedError, StudyResults, setting, single

DEEP = 3
"""Layers from this one on are called deep."""

EXAMPLE = 5
"""Layer of the paper's example of a spectrum."""

_MARGIN = 0.02
"""Largest change of accuracy that is called a small margin."""

_DROP = np.log10(1.1)
"""Decades by which an eigenvalue must lie below a line through others to have dropped."""

_NARROW = 50
"""Width whose networks are said to fluctuate much."""

_ENOUGH = 2000
"""Stimuli from which fluctuations are called negligible."""

_NEGLIGIBLE = 1 / 3
"""Of the standard deviation between networks: fluctuations of that size widen it by less than 6 %."""


def deep_layers(table: pd.DataFrame) -> list[Any]:
    """Columns from layer ``DEEP`` on.

    Raises:
        NotTestedError: there are none.
    """
    found = [layer for layer in list[Any](table) if layer >= DEEP]
    if not found:
        raise NotTestedError(f"layers {DEEP} and deeper")
    return found


def by_layer(evidence: StudyResults, quantity: str, **where: Any) -> pd.DataFrame:
    """Networks of width 200 x layers."""
    table = evidence.table(quantity, columns="layer", width=WIDTH, **where)
    return needed(table.rename(columns=number_of).sort_index(axis=1), f"networks of width {WIDTH}")


def _accuracies(evidence: StudyResults) -> pd.DataFrame:
    return by_layer(evidence, "accuracy", perturbation="held_out")


def _alphas(evidence: StudyResults) -> pd.DataFrame:
    return by_layer(evidence, "alpha", perturbation="unperturbed")


def error_over_training(evidence: StudyResults) -> Finding:
    """J1a: the error falls over training."""
    rows = evidence.select("accuracy", perturbation="held_out", width=WIDTH, epoch=None)
    over = rows.pivot_table(index=["seed", "layer"], columns="epoch", values="value")
    needed(over, f"networks of width {WIDTH}")
    if over.shape[1] < 2:
        raise NotTestedError("accuracies at two epochs at least")
    falls = {
        layer: interval(part.iloc[:, -1] - part.iloc[:, 0])
        for layer, part in over.rename(index=number_of, level="layer").groupby("layer")
    }
    layer, least = lowest(falls)
    found = (
        f"smallest fall of the error from the first to the last epoch, layer {layer}: {least.told(2, 100, 'percentage points')}"
    )
    return finding(found, "the test error of every layer falls", *(fall.above() for fall in falls.values()))


def error_over_depth(evidence: StudyResults) -> Finding:
    """J1b: the error falls with depth until it has settled."""
    accuracy = _accuracies(evidence)
    others = accuracy.drop(columns=1, errors="ignore")
    if others.empty:
        raise NotTestedError("networks of two layers at least")
    best: Any = others.mean().idxmax()
    gain, loss = interval(accuracy[best] - setting(accuracy, 1)), interval(accuracy[best] - accuracy.iloc[:, -1])
    found = f"best layer, {best}, minus layer 1 {gain.text(2, 100)}; minus the last {loss.told(2, 100, 'percentage points')}"
    test = f"the best layer beyond the first is above it, and the last lies less than {_MARGIN:.0%} below the best"
    return finding(found, test, gain.above(), True if best == accuracy.columns[-1] else loss.below(_MARGIN))


def share_of_ten(evidence: StudyResults) -> Finding:
    """J2a: ten components carry nearly all variance."""
    share = by_layer(evidence, "variance_first_ten", perturbation="unperturbed")
    own = interval(setting(share, EXAMPLE))
    from_layer = next((layer for layer in list[Any](share) if (share.mean().loc[layer:] > 0.95).all()), None)
    found = f"layer {EXAMPLE}: {own.told(1, 100, '%')}; " + (
        f"mean above 95 % from layer {from_layer} on" if from_layer else f"last layer {share.mean().iloc[-1]:.1%}"
    )
    return finding(found, f"share of the variance in ten components above 95 % in layer {EXAMPLE}", own.above(0.95))


def waterfall(evidence: StudyResults) -> Finding:
    """J2b: eigenvalues drop behind the tenth."""
    drops = _drops(evidence)
    deep = {layer: interval(drops[layer]) for layer in deep_layers(drops)}
    layer, least = lowest(deep)
    found = f"eigenvalue 20 lies below the line through ranks 1-10, least in layer {layer}: {least.told(2, unit='decades')}"
    test = f"by more than {_DROP:.2f} decades (10 %) in every layer from {DEEP} on"
    return finding(found, test, *(each.above(_DROP) for each in deep.values()))


def waterfall_over_depth(evidence: StudyResults) -> Finding:
    """J2c: they drop more, the deeper the layer."""
    growing = rank_correlation(_drops(evidence))
    return finding(f"rank correlation of that drop with depth: {growing.told(2)}", "above 0", growing.above())


def _drops(evidence: StudyResults) -> pd.DataFrame:
    """Decades by which eigenvalue 20 lies below the line through the first ten: networks x layers."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["width"] == WIDTH) & (spectra["perturbation"] == "unperturbed")]
    ranks = np.log10(np.arange(1, 11))

    def drop(values: np.ndarray) -> float:
        if len(values) < 20:
            return np.nan
        values = np.maximum(values, values[0] * np.finfo(float).eps)  # nothing left at rank 20 is the steepest drop of all
        fit = stats.linregress(ranks, np.log10(values[:10]))
        return float(fit.intercept + fit.slope * np.log10(20) - np.log10(values[19]))

    spectra = spectra.assign(drop=spectra["eigenvalues"].map(drop))
    table = spectra.pivot_table(index="seed", columns="layer", values="drop").dropna().rename(columns=number_of)
    return needed(table, f"networks of width {WIDTH}")


def _of_widths(evidence: StudyResults, quantity: str) -> dict[Any, pd.DataFrame]:
    """Width -> networks x layers.

    Raises:
        NotTestedError: fewer than two widths, or an exponent is missing.
    """
    condition = "held_out" if quantity == "accuracy" else "unperturbed"
    rows = single(evidence.select(quantity, perturbation=condition), "width", "layer", "seed")
    if len(rows) != len(evidence.select("accuracy", perturbation="held_out")):
        raise NotTestedError("an exponent of every network: the spectra of some are too short, and the others are no fair sample")
    rows = rows.assign(layer=rows["layer"].map(number_of))
    found = {width: own.pivot_table(index="seed", columns="layer", values="value") for width, own in rows.groupby("width")}
    if len(found) < 2:
        raise NotTestedError("networks of several widths")
    return found


def steadier(quantity: str) -> Callable[[StudyResults], Finding]:
    """J3a, J3b: whether a quantity fluctuates less from one width to the next, and from the first to the last."""

    def check(evidence: StudyResults) -> Finding:
        deep = {width: table[deep_layers(table)] for width, table in _of_widths(evidence, quantity).items()}
        widths = sorted(deep)
        steps = {f"{first:g} to {second:g}": _log_ratio(deep[first], deep[second]) for first, second in pairwise(widths)}
        whole = _log_ratio(deep[widths[0]], deep[widths[-1]])
        where, least = lowest(steps)
        found = (
            f"log ratio of the standard deviations over networks, N = {widths[0]:g} to {widths[-1]:g}: {whole.text(2)}; smallest "
            f"step, {where}: {least.told(2)}"
        )
        test = "above 0 from end to end and at every step, mean over deep layers (jackknife over networks)"
        every = [*steps.values(), *([whole] if len(steps) > 1 else [])]
        return finding(found, test, *(step.above() for step in every))

    return check


def narrow(evidence: StudyResults) -> Finding:
    """J3c: accuracy of networks of 50 units fluctuates most in deep layers."""
    tables = _of_widths(evidence, "accuracy")
    if _NARROW not in tables:
        raise NotTestedError(f"networks of width {_NARROW}")
    own = tables[_NARROW]
    deep, early = deep_layers(own), [layer for layer in list[Any](own) if layer < DEEP]
    if not early:
        raise NotTestedError(f"layers above layer {DEEP}")

    def log_ratio(some: list[Any]) -> float:
        logs = np.log(own.loc[some].std())
        return float(logs[deep].mean() - logs[early].mean())

    ratio = jackknife(log_ratio, list(own.index))
    found = f"log ratio of the standard deviations of accuracy, deep layers to the first two, N = {_NARROW}: {ratio.told(2)}"
    return finding(found, "above 0 (jackknife over networks)", ratio.above())


def _log_ratio(first: pd.DataFrame, second: pd.DataFrame) -> Interval:
    """Log ratio of the standard deviations over networks, mean over layers: networks x layers of one width, and of another."""
    sides = [
        jackknife(lambda some, own=own: float(np.log(own.loc[some].std()).mean()), list(own.index))  # type: ignore[misc]
        for own in (first, second)
    ]
    mean = sides[0].mean - sides[1].mean
    half = float(np.hypot(sides[0].high - sides[0].mean, sides[1].high - sides[1].mean))
    return Interval(mean, mean - half, mean + half, min(side.count for side in sides))


def alpha_over_depth(evidence: StudyResults) -> Finding:
    """J4a: α grows along the depth."""
    alpha = _alphas(evidence)
    rising, whole = rank_correlation(alpha), interval(alpha.iloc[:, -1] - setting(alpha, 1))
    found = f"rank correlation of α with depth {rising.text(2)}; last layer minus the first {whole.told(2)}"
    return finding(found, f"above {MONOTONE:g}, and above 0", rising.above(MONOTONE), whole.above())


def first_below_one(evidence: StudyResults) -> Finding:
    """J4b: α of layer 1 is below 1."""
    first = interval(setting(_alphas(evidence), 1))
    return finding(f"α of layer 1: {first.told()}", "below 1", first.below(1))


def first_apart(evidence: StudyResults) -> Finding:
    """J4c: deep layers are apart from the first."""
    alpha = _alphas(evidence)
    apart = {layer: interval(alpha[layer] - setting(alpha, 1)) for layer in deep_layers(alpha)}
    layer, least = lowest(apart)
    test = f"every layer from {DEEP} on above layer 1 (paired over networks)"
    return finding(
        f"smallest difference from layer 1, layer {layer}: {least.told()}", test, *(each.above() for each in apart.values())
    )


def turn_of_accuracy(evidence: StudyResults) -> Finding:
    """J5a: accuracy rises to layer 2, and no further."""
    accuracy = _accuracies(evidence)
    up = interval(setting(accuracy, 2) - setting(accuracy, 1))
    ahead = {layer: interval(accuracy[layer] - accuracy[2]) for layer in deep_layers(accuracy)}
    layer, most = max(ahead.items(), key=lambda each: each[1].low)  # that is ahead most certainly, if any is
    found = f"accuracy, layer 2 minus 1 {up.text(2, 100)}; layer {layer} minus layer 2 {most.told(2, 100, 'percentage points')}"
    equal = not any(each.widened(len(ahead)).low > 0 for each in ahead.values())
    test = f"layer 2 is above layer 1, and none of {len(ahead)} later layers ahead of it (level 5 % for all together)"
    return finding(found, test, up.above(), equal)


def decline_of_accuracy(evidence: StudyResults) -> Finding:
    """J5b: accuracy falls a little behind layer 2."""
    accuracy = _accuracies(evidence)
    down = interval(setting(accuracy, 2) - accuracy.iloc[:, -1])
    found = f"accuracy, layer 2 minus the last: {down.told(2, 100, 'percentage points')}"
    return finding(found, f"between 0 and {_MARGIN:.0%}", down.between(0, _MARGIN))


def enough_stimuli(evidence: StudyResults) -> Finding:
    """J10: how much α depends on the choice of 2000 stimuli."""
    rows = evidence.select("alpha_stderr", perturbation="stimuli", width=WIDTH)
    rows = rows[rows["strength"] >= _ENOUGH]
    if rows.empty:
        raise NotTestedError(f"networks read with several numbers of stimuli, {_ENOUGH} and more")
    table = rows[rows["strength"] == rows["strength"].min()].pivot_table(index="seed", columns="layer", values="value")
    alpha = evidence.table("alpha", columns="layer", perturbation="unperturbed", width=WIDTH)
    table, alpha = table.align(alpha, join="inner")
    if table.empty:
        raise NotTestedError("exponents of the same networks and layers")

    def share(some: list[Any]) -> float:
        return float((table.loc[some].mean() / alpha.loc[some].std()).mean())

    ratio = jackknife(share, list(table.index))
    found = f"standard error of α over {rows['strength'].min():g} stimuli, in standard deviations over networks: {ratio.told(2)}"
    test = f"below {_NEGLIGIBLE:.2f}, mean over layers, which adds less than 6 % to the spread (jackknife over networks)"
    return finding(found, test, ratio.below(_NEGLIGIBLE))
