"""The findings of Jiang, Zhou & Huang 2020, as checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from eigencode.papers.jiang2020.study import WIDTH, dimension_of, number_of
from eigencode.spectra.dimension import power_law_dimension
from eigencode.studies.results.claim import Claim, Finding, finding
from eigencode.studies.results.statistics import (
    Decision,
    Interval,
    interval,
    jackknife,
    kleene_and,
    kleene_nor,
    kleene_or,
    listed,
    needed,
    rank_correlation,
    spread,
)
from eigencode.studies.results.table import NotTestedError, StudyResults, setting, single

DEEP = 3
"""Layers from this one on are called deep."""

_MARGIN = 0.02
"""Largest change of accuracy that is called a small margin."""

FEWEST_STRENGTHS = 3
"""Strengths that make a line."""

_ROUGHLY = 0.25
"""Median relative deviation up to which two dimensions agree roughly."""

_WEAK = 1.0
"""Strengths up to this one are called weak."""

_A_PEAK = 0.01
"""Height above the unperturbed value from which a curve has a peak."""

_DROP = np.log10(1.1)
"""Decades by which an eigenvalue must lie below a line through others to have dropped."""

_SHOWN = (0.0, 0.5, 3.0)
"""Strengths of Fig. 8 b and c."""

_RISES = {"accuracy": 0.002, "alpha": 0.01}
"""Rises from one strength of noise to the next up to which a curve falls monotonically."""

_ENOUGH = 2000
"""Stimuli from which fluctuations are called negligible."""

_LINEAR = 0.99
"""R² from which accuracy is linear in the exponent."""

STATED_SLOPES = {1: 0.56, 2: 0.86, 3: 1.04}


def deep_layers(table: pd.DataFrame) -> list[Any]:
    """Columns from layer ``DEEP`` on."""
    return [layer for layer in list[Any](table) if layer >= DEEP]


def by_layer(evidence: StudyResults, quantity: str, **where: Any) -> pd.DataFrame:
    """Networks of width 200 x layers."""
    table = evidence.table(quantity, columns="layer", width=WIDTH, **where)
    return needed(table.rename(columns=number_of).sort_index(axis=1), f"networks of width {WIDTH}")


def _accuracies(evidence: StudyResults) -> pd.DataFrame:
    return by_layer(evidence, "accuracy", perturbation="held_out")


def _alphas(evidence: StudyResults) -> pd.DataFrame:
    return by_layer(evidence, "alpha", perturbation="unperturbed")


def _j1(evidence: StudyResults) -> Finding:
    rows = evidence.select("accuracy", perturbation="held_out", width=WIDTH, epoch=None)
    over = rows.pivot_table(index=["seed", "layer"], columns="epoch", values="value")
    needed(over, f"networks of width {WIDTH}")
    falls = {
        layer: interval(part.iloc[:, -1] - part.iloc[:, 0])
        for layer, part in over.rename(index=number_of, level="layer").groupby("layer")
    }
    error = 1 - _accuracies(evidence)
    to_second, after = interval(setting(error, 1) - setting(error, 2)), interval(error[error.columns[-1]] - error[2])
    found = (
        f"error (%) {listed(error.mean(), 2, 100)} at layers 1 to {error.columns[-1]}; layer 1 minus 2 "
        f"{to_second.text(2, 100)}, last minus 2 {after.text(2, 100)} percentage points; smallest fall over training "
        f"{_lowest(falls, 2, 100)} percentage points"
    )
    test = (
        f"over training every layer's error falls; it is lower at layer 2 than at 1 and, by less than {_MARGIN:.0%}, at the last "
        "(paired over networks)"
    )
    return finding(
        found, test, *(fall.above() for fall in falls.values()), to_second.above(), after.above(), after.below(_MARGIN)
    )


def _j2(evidence: StudyResults) -> Finding:
    share = by_layer(evidence, "variance_first_ten", perturbation="unperturbed")
    deep = {layer: interval(share[layer]) for layer in deep_layers(share)}
    drops = _drops(evidence)
    below = {layer: interval(drops[layer]) for layer in deep_layers(drops)}
    growing = rank_correlation(drops)
    found = (
        f"share of the first ten (%) {listed(share.mean(), 1, 100)}, least of layers {DEEP} and deeper "
        f"{_lowest(deep, 1, 100)}; eigenvalue 20 lies below the line through ranks 1-10 by a factor "
        f"{listed(10 ** drops.mean(), 1)}, least in decades {_lowest(below, 2)}; rank correlation of that drop with depth "
        f"{growing.text(2)}"
    )
    test = (
        f"share above 95 % in layers {DEEP} and deeper; eigenvalue 20 below the fitted line by 10 % in all of them, more so "
        "deeper"
    )
    decisions = [*(each.above(0.95) for each in deep.values()), *(each.above(_DROP) for each in below.values())]
    return finding(found, test, *decisions, growing.above())


def _lowest(intervals: dict[Any, Interval], digits: int = 3, factor: float = 1.0) -> str:
    """The interval of some layers' that reaches lowest, which is the last to lie above a limit, in words.

    Raises:
        NotTestedError: there are no such layers.
    """
    if not intervals:
        raise NotTestedError(f"layers {DEEP} and deeper")
    layer, least = min(intervals.items(), key=lambda each: each[1].low)
    return f"{least.text(digits, factor)} (layer {layer})"


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


def _j3(evidence: StudyResults) -> Finding:
    spreads: dict[str, pd.DataFrame] = {}
    each: dict[str, pd.DataFrame] = {}
    counts: dict[str, pd.Series] = {}
    for quantity, perturbation in (("accuracy", "held_out"), ("alpha", "unperturbed")):
        rows = evidence.select(quantity, perturbation=perturbation)
        rows = single(rows[rows["layer"].map(number_of) >= DEEP], "width", "layer", "seed")
        counts[quantity] = rows.groupby(["width", "layer"])["value"].count()
        each[quantity] = rows.pivot_table(index=["width", "seed"], columns="layer", values="value")
        spreads[quantity] = rows.groupby(["width", "layer"])["value"].std().unstack("width").dropna()
    if not counts["alpha"].equals(counts["accuracy"]):
        raise NotTestedError("an exponent of every network: the spectra of some are too short, and the others are no fair sample")
    widths = list(spreads["alpha"].columns)
    if len(widths) < 2:
        raise NotTestedError("networks of several widths")
    narrow, wide = widths[0], widths[-1]
    ratios = {name: _log_ratio(values.xs(narrow), values.xs(wide)) for name, values in each.items()}
    found = "; ".join(
        f"standard deviation of {name} over networks, deep layers: "
        + ", ".join(f"{spread[width].mean():.4f} (N = {width:g})" for width in widths)
        + f", log ratio of the first and the last {ratios[name].text(2)}"
        for name, spread in spreads.items()
    )
    test = (
        f"the standard deviation at N = {narrow:g} exceeds that at N = {wide:g} (log ratio, mean over deep layers; intervals by "
        "leaving out each network in turn)"
    )
    return finding(found, test, *(ratio.above() for ratio in ratios.values()))


def _log_ratio(first: Any, second: Any) -> Interval:
    """Log ratio of the standard deviations over networks, mean over layers: networks x layers of one kind, and of another."""
    sides = [
        jackknife(lambda some, own=own: float(np.log(own.loc[some].std()).mean()), list(own.index))  # type: ignore[misc]
        for own in (first, second)
    ]
    mean = sides[0].mean - sides[1].mean
    half = float(np.hypot(sides[0].high - sides[0].mean, sides[1].high - sides[1].mean))
    return Interval(mean, mean - half, mean + half, min(side.count for side in sides))


def _j4(evidence: StudyResults) -> Finding:
    alpha = _alphas(evidence)
    rising, first = rank_correlation(alpha), interval(setting(alpha, 1) - 1)
    deep = {layer: interval(alpha[layer] - 1) for layer in deep_layers(alpha)}
    found = (
        f"α {listed(alpha.mean())} at layers 1 to {alpha.columns[-1]}; rank correlation with depth {rising.text(2)}; layer 1 "
        f"minus 1 {first.text()}, lowest of layers {DEEP} and deeper minus 1 {_lowest(deep)}"
    )
    test = f"α correlates with depth in rank; layer 1 below 1, layers {DEEP} and deeper above 1"
    return finding(found, test, rising.above(), first.below(), *(each.above() for each in deep.values()))


def _j5(evidence: StudyResults) -> Finding:
    accuracy = _accuracies(evidence)
    up = interval(setting(accuracy, 2) - setting(accuracy, 1))
    down = interval(accuracy[2] - accuracy[accuracy.columns[-1]])
    rest = accuracy.mean().drop(2).idxmax()
    ahead = interval(accuracy[2] - accuracy[rest])
    found = (
        f"accuracy (%) {listed(accuracy.mean(), 2, 100)}; layer 2 minus 1 {up.text(2, 100)}, minus the best other, layer {rest}, "
        f"{ahead.text(3, 100)}, minus the last {down.text(2, 100)} percentage points"
    )
    test = f"accuracy of layer 2 above layer 1 and above the last layer, best of all, and the decline below {_MARGIN:.0%}"
    return finding(found, test, up.above(), ahead.above(), down.above(), down.below(_MARGIN))


def each_curve(evidence: StudyResults, kind: str, quantity: str) -> pd.DataFrame:
    """(Seeds, strengths) x layers of the networks that were perturbed; strength 0 is these networks unperturbed."""
    perturbed = evidence.select("accuracy", perturbation=kind, width=WIDTH)
    if perturbed["seed"].nunique() < 2:
        raise NotTestedError("perturbed networks, 2 at least")
    rows = evidence.select(quantity, perturbation=["unperturbed", kind], network=list(perturbed["network"]))
    rows = single(rows, "seed", "perturbation", "strength", "layer")
    table = rows.pivot_table(index=["seed", "strength"], columns="layer", values="value").rename(columns=number_of)
    return table.sort_index(axis=1)


def _j6(evidence: StudyResults) -> Finding:
    rises = {name: _largest_rise(evidence, name) for name in _RISES}
    rows = evidence.select("accuracy", perturbation="layer_gaussian", width=WIDTH)
    areas = rows.pivot_table(index="seed", columns="layer", values="value", aggfunc="mean").rename(columns=number_of)
    deeper = rank_correlation(needed(areas.sort_index(axis=1), "perturbed networks"))
    found = (
        "largest rise of the mean between neighbouring ε: of "
        + ", of ".join(f"{name} {rise.text(4)} (layer {layer})" for name, (layer, rise) in rises.items())
        + f"; accuracy averaged over ε {listed(areas.mean().sort_index(), 3)} at layers 1 to {areas.shape[1]}; rank correlation "
        f"with depth {deeper.text(2)}; {spread(areas.std())}"
    )
    test = (
        "no rise above 0.002 of accuracy or 0.01 of α, that of the layer and ε where the mean rises most; accuracy averaged "
        "over ε grows with depth"
    )
    return finding(found, test, *(rise.below(_RISES[name]) for name, (_, rise) in rises.items()), deeper.above())


def _largest_rise(evidence: StudyResults, quantity: str) -> tuple[Any, Interval]:
    """Layer and size of the largest rise of the mean curve from one strength of noise to the next."""
    curves = each_curve(evidence, "layer_gaussian", quantity)
    mean_rises = curves.groupby("strength").mean().sort_index().diff().iloc[1:]
    if mean_rises.isna().all(axis=None):
        raise NotTestedError(f"{quantity} of perturbed networks at two strengths at least")
    layer: Any = mean_rises.max().idxmax()
    each = curves[layer].unstack("strength").sort_index(axis=1).diff(axis=1)
    return layer, interval(each[mean_rises[layer].idxmax()])


def _j7(evidence: StudyResults) -> Finding:
    curves = [each_curve(evidence, "layer_gaussian", name) for name in ("accuracy", "alpha")]
    seeds = sorted(set(curves[0].index.get_level_values("seed")))
    mean_alpha = curves[1].groupby("strength").mean()
    parts: list[str] = []
    determined: dict[int, Interval] = {}
    for layer in list[Any](curves[0]):
        below = mean_alpha.index[(setting(mean_alpha, layer) < 1) & (mean_alpha.index > 0)]
        if len(below) < FEWEST_STRENGTHS:
            continue
        accuracy, alpha = (setting(curve, layer).unstack("seed").reindex(below) for curve in curves)

        def fit(some: list[Any], accuracy: pd.DataFrame = accuracy, alpha: pd.DataFrame = alpha) -> Any:
            return stats.linregress(alpha[some].mean(axis=1), accuracy[some].mean(axis=1))

        slope = jackknife(lambda some, fit=fit: fit(some).slope, seeds)  # type: ignore[misc]
        determined[layer] = jackknife(lambda some, fit=fit: fit(some).rvalue ** 2, seeds)  # type: ignore[misc]
        paper = f" (paper {STATED_SLOPES[layer]})" if layer in STATED_SLOPES else ""
        parts.append(f"layer {layer}: slope {slope.text(2)}{paper}, R² {determined[layer].text(4)}, {len(below)} strengths")
    if not {1, 2, 3} <= set(determined):
        raise NotTestedError("strengths at which the mean α of layers 1, 2 and 3 is below 1, three for each")
    if max(determined) <= 3:
        raise NotTestedError(f"a layer beyond the third whose mean α falls below 1; {'; '.join(parts)}")
    early = [determined[layer].above(_LINEAR) for layer in (1, 2, 3)]
    later = [found.below(_LINEAR) for layer, found in determined.items() if layer > 3]
    test = (
        f"accuracy against α of means over networks, strengths with α below 1: R² above {_LINEAR:g} in layers 1 to 3, and not "
        "beyond (intervals by leaving out each network in turn)"
    )
    return finding("; ".join(parts), test, *early, *later)


def _j8(evidence: StudyResults) -> Finding:
    parts: list[str] = []
    peaks: dict[tuple[str, str], dict[Any, Decision]] = {}
    for kind in ("layer_fgsm", "layer_gaussian"):
        for quantity in ("alpha", "accuracy"):
            peaks[kind, quantity], found = _peaks(evidence, kind, quantity)
            parts.append(f"{kind.removeprefix('layer_')}, {quantity}: {found}")
    alpha, accuracy = peaks["layer_fgsm", "alpha"], peaks["layer_fgsm", "accuracy"]
    under_fgsm = kleene_or(*(kleene_and(alpha[layer], accuracy[layer]) for layer in alpha))
    not_under_noise = kleene_nor(*(each for name in ("alpha", "accuracy") for each in peaks["layer_gaussian", name].values()))
    test = (
        f"in some layer both α and accuracy lie {_A_PEAK:g} above ε = 0 where they are highest at ε up to {_WEAK:g}, and fall "
        "from there, under FGSM; neither does so in any layer under noise"
    )
    return finding(f"largest gain over ε = 0: {'; '.join(parts)}", test, under_fgsm, not_under_noise)


def _peaks(evidence: StudyResults, kind: str, quantity: str) -> tuple[dict[Any, Decision], str]:
    """Whether each layer's curve has a peak where its mean is highest at weak ε; and the largest gain over ε = 0, in words."""
    curves = each_curve(evidence, kind, quantity)
    mean = curves.groupby("strength").mean()
    weak = mean[(mean.index > 0) & (mean.index <= _WEAK)]
    peaks: dict[Any, Decision] = {}
    gains: dict[tuple[float, Any], Interval] = {}
    if weak.empty:
        raise NotTestedError(f"networks perturbed with ε up to {_WEAK:g}")
    for layer in list[Any](weak):
        epsilon: Any = weak[layer].idxmax()
        own = curves[layer].unstack("strength").dropna()
        gain, fall = interval(setting(own, epsilon) - setting(own, 0.0)), interval(own[epsilon] - own[own.columns.max()])
        peaks[layer] = kleene_and(gain.above(_A_PEAK), fall.above())
        gains[epsilon, layer] = gain
    (epsilon, layer), largest = max(gains.items(), key=lambda each: each[1].mean)
    return peaks, f"{largest.text()} at ε = {epsilon:g}, layer {layer}"


def _j9(evidence: StudyResults) -> Finding:
    parts, deviations, quantity = [], [], dimension_of(evidence)
    for kind, size in (("layer_gaussian", 35), ("layer_fgsm", 30)):
        first, second = (each_curve(evidence, kind, name) for name in ("alpha", quantity))
        curves = list(first.align(second, join="inner"))
        if not set(_SHOWN) <= set(curves[0].index.get_level_values("strength")):
            raise NotTestedError("networks perturbed with ε of 0.5 and 3")
        seeds = sorted(set(curves[0].index.get_level_values("seed")))

        def median(some: list[Any], curves: list[pd.DataFrame] = curves, size: int = size) -> float:
            alpha, measured = (curve.loc[some].groupby("strength").mean().reindex(_SHOWN).to_numpy() for curve in curves)
            theory = np.vectorize(lambda value: power_law_dimension(value, size))(alpha)
            return float(np.nanmedian(np.abs(measured / theory - 1)))

        deviation = jackknife(median, seeds)
        deviations.append(deviation)
        name = kind.removeprefix("layer_")
        parts.append(f"{name}, N = {size}: median |D / D(α) − 1| {deviation.text(2)} over layers and ε of {list(_SHOWN)}")
    of = "images" if quantity == "dimension" else "population"
    test = f"median relative deviation of D of the {of} from Eq. (5) below {_ROUGHLY} (intervals by leaving out each network)"
    return finding("; ".join(parts), test, *(each.below(_ROUGHLY) for each in deviations))


def _j10(evidence: StudyResults) -> Finding:
    rows = evidence.select("alpha_stderr", perturbation="stimuli", width=WIDTH)
    if not (rows["strength"] >= _ENOUGH).any():
        raise NotTestedError(f"networks read with several numbers of stimuli, {_ENOUGH} and more")
    largest = rows.groupby("strength")["value"].max()
    between = _alphas(evidence).std().mean()
    found = "largest standard error of α, any layer and network: " + ", ".join(
        f"{value:.4f} (k = {count:g})" for count, value in largest.items()
    )
    test = f"standard error below 0.02 in every layer and network for k of {_ENOUGH} and more"
    negligible = bool((largest[largest.index >= _ENOUGH] < 0.02).all())
    return finding(f"{found}; standard deviation between networks {between:.4f} (mean over layers)", test, negligible)


CLAIMS = (
    Claim(
        "J1",
        "fig2",
        "Test error falls over training at every layer; with depth it falls to layer 2, then rises a little.",
        _j1,
        window="none",
    ),
    Claim(
        "J2",
        "fig3",
        "The first ten components carry over 95 % of the variance in deep layers; a waterfall follows, more so deeper.",
        _j2,
        window="none",
    ),
    Claim(
        "J3", "fig4", "The spread of accuracy and α over networks shrinks with width, and is large at N = 50 in deep layers.", _j3
    ),
    Claim("J4", "fig5", "α rises along the depth; layer 1 lies below 1, deep layers above 1.", _j4),
    Claim("J5", "fig5", "Test accuracy turns over at layer 2, then declines by a very small margin.", _j5, window="none"),
    Claim("J6", "fig6", "Under Gaussian noise accuracy and α fall monotonically with ε; deeper layers are more robust.", _j6),
    Claim(
        "J7",
        "fig6",
        "In layers 1-3 accuracy is linear in α below α of about 1, R² > 0.99, slopes 0.56, 0.86, 1.04; not beyond.",
        _j7,
    ),
    Claim("J8", "fig7", "Under FGSM α and accuracy show a peak at weak ε, unlike under Gaussian noise.", _j8),
    Claim("J9", "fig8", "Measured D agrees roughly with D(α), N = 35 (Gaussian) and N = 30 (FGSM).", _j9, window="own"),
    Claim("J10", "stimuli", "Fluctuations of α from the choice of stimuli are negligible for k ≥ 2000.", _j10, window="own"),
)
