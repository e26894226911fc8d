"""The findings of Jiang, Zhou & Huang 2020, as checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from eigencode.spectra.dimension import power_law_dimension
from eigencode.studies.claims import Claim, Finding, Interval, Published, interval, listed, needed, rank_correlation, verdict
from eigencode.studies.evidence import Evidence, NotTestedError, single
from eigencode.studies.papers.jiang2020 import WIDTH, number_of

DEEP = 3
"""Layers from this one on are called deep."""

_MARGIN = 0.02
"""Largest change of accuracy that is called a small margin."""

_ROUGHLY = 0.25
"""Median relative deviation up to which two dimensions agree roughly."""

_WEAK = 1.0
"""Strengths up to this one are called weak."""

_ENOUGH = 2000
"""Stimuli from which fluctuations are called negligible."""

_PAPERS_SLOPES = {1: 0.56, 2: 0.86, 3: 1.04}


def deep_layers(table: pd.DataFrame) -> list[Any]:
    """Columns from layer ``DEEP`` on."""
    return [layer for layer in list[Any](table) if layer >= DEEP]


def _table(evidence: Evidence, quantity: str, **where: Any) -> pd.DataFrame:
    """Networks of width 200 x layers."""
    table = evidence.table(quantity, columns="layer", width=WIDTH, **where)
    return needed(table.rename(columns=number_of).sort_index(axis=1), f"networks of width {WIDTH}")


def _accuracies(evidence: Evidence) -> pd.DataFrame:
    return _table(evidence, "accuracy", perturbation="held_out")


def _alphas(evidence: Evidence) -> pd.DataFrame:
    return _table(evidence, "alpha", perturbation="unperturbed")


def _j1(evidence: Evidence) -> Finding:
    rows = evidence.select("accuracy", perturbation="held_out", width=WIDTH, epoch=None)
    over = rows.pivot_table(index=["seed", "layer"], columns="epoch", values="value")
    needed(over, f"networks of width {WIDTH}")
    falls = [interval(part.iloc[:, -1] - part.iloc[:, 0]) for _, part in over.groupby("layer")]
    error = 1 - _accuracies(evidence)
    to_second, after = interval(error[1] - error[2]), interval(error[error.columns[-1]] - error[2])
    found = (
        f"error (%) {listed(error.mean(), 2, 100)} at layers 1 to {error.columns[-1]}; layer 1 minus 2 "
        f"{to_second.text(2, 100)}, last minus 2 {after.text(2, 100)} percentage points"
    )
    test = (
        f"over training every layer's error falls; it is lower at layer 2 than at 1 and, by less than {_MARGIN:.0%}, at the last "
        "(paired over networks)"
    )
    small = after.mean < _MARGIN
    return Finding(verdict(all(fall.above_zero for fall in falls), to_second.above_zero, after.above_zero, small), found, test)


def _j2(evidence: Evidence) -> Finding:
    share = _table(evidence, "variance_first_ten", perturbation="unperturbed")
    deep = [interval(share[layer]) for layer in deep_layers(share)]
    drops = _drops(evidence)
    growing = rank_correlation(drops)
    found = (
        f"share of the first ten (%) {listed(share.mean(), 1, 100)}; eigenvalue 20 lies below the line "
        f"through ranks 1-10 by a factor {listed(10 ** drops.mean(), 1)}; rank correlation of that drop with "
        f"depth {growing.text(2)}"
    )
    test = f"share above 95 % in layers {DEEP} and deeper; eigenvalue 20 below the fitted line in all of them, more so deeper"
    below = all(interval(drops[layer]).above_zero for layer in deep_layers(drops))
    return Finding(verdict(all(each.low > 0.95 for each in deep), below, growing.above_zero), found, test)


def _drops(evidence: Evidence) -> pd.DataFrame:
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


def _j3(evidence: Evidence) -> Finding:
    spreads: dict[str, pd.DataFrame] = {}
    counts: dict[str, pd.Series] = {}
    for quantity, perturbation in (("accuracy", "held_out"), ("alpha", "unperturbed")):
        rows = evidence.select(quantity, perturbation=perturbation)
        rows = single(rows[rows["layer"].map(number_of) >= DEEP], "width", "layer", "seed")
        counts[quantity] = rows.groupby(["width", "layer"])["value"].count()
        spreads[quantity] = rows.groupby(["width", "layer"])["value"].std().unstack("width").dropna()
    if not counts["alpha"].equals(counts["accuracy"]):
        raise NotTestedError("an exponent of every network: the spectra of some are too short, and the others are no fair sample")
    widths = list(spreads["alpha"].columns)
    if len(widths) < 2:
        raise NotTestedError("networks of several widths")
    narrow, wide = widths[0], widths[-1]
    ratios = {name: interval(np.log(spread[narrow] / spread[wide])) for name, spread in spreads.items()}
    found = "; ".join(
        f"standard deviation of {name} over networks, deep layers: "
        + ", ".join(f"{spread[width].mean():.4f} (N = {width:g})" for width in widths)
        for name, spread in spreads.items()
    )
    test = f"the standard deviation at N = {narrow:g} exceeds that at N = {wide:g} in deep layers (log ratio over layers)"
    return Finding(verdict(*(ratio.above_zero for ratio in ratios.values())), found, test)


def _j4(evidence: Evidence) -> Finding:
    alpha = _alphas(evidence)
    rising, first = rank_correlation(alpha), interval(alpha[1] - 1)
    deep = [interval(alpha[layer] - 1) for layer in deep_layers(alpha)]
    found = f"α {listed(alpha.mean())} at layers 1 to {alpha.columns[-1]}; rank correlation with depth " + (
        f"{rising.text(2)}; layer 1 minus 1 {first.text()}"
    )
    test = f"α correlates with depth in rank; layer 1 below 1, layers {DEEP} and deeper above 1"
    return Finding(verdict(rising.above_zero, first.below_zero, all(each.above_zero for each in deep)), found, test)


def _j5(evidence: Evidence) -> Finding:
    accuracy = _accuracies(evidence)
    up = interval(accuracy[2] - accuracy[1])
    down = interval(accuracy[2] - accuracy[accuracy.columns[-1]])
    best = accuracy.mean().idxmax()
    found = (
        f"accuracy (%) {listed(accuracy.mean(), 2, 100)}; best at layer {best}; layer 2 minus 1 "
        f"{up.text(2, 100)}, minus the last {down.text(2, 100)} percentage points"
    )
    small = down.mean < _MARGIN
    test = f"accuracy of layer 2 above layer 1 and above the last layer, best of all, and the decline below {_MARGIN:.0%}"
    return Finding(verdict(up.above_zero, down.above_zero, best == 2, small), found, test)


def _curves(evidence: Evidence, kind: str, quantity: str) -> pd.DataFrame:
    """Networks' means: strengths x layers, with strength 0 first."""
    return _each_curve(evidence, kind, quantity).groupby("strength").mean().sort_index()


def _each_curve(evidence: Evidence, kind: str, quantity: str) -> pd.DataFrame:
    """(Seeds, strengths) x layers of the networks that were perturbed; strength 0 is these networks unperturbed."""
    perturbed = evidence.select("accuracy", perturbation=kind, width=WIDTH)
    if perturbed["seed"].nunique() < 2:
        raise NotTestedError("perturbed networks, 2 at least")
    rows = evidence.select(quantity, perturbation=["unperturbed", kind], network=list(perturbed["network"]))
    rows = single(rows, "seed", "perturbation", "strength", "layer")
    table = rows.pivot_table(index=["seed", "strength"], columns="layer", values="value").rename(columns=number_of)
    return table.sort_index(axis=1)


def _j6(evidence: Evidence) -> Finding:
    curves = {quantity: _curves(evidence, "layer_gaussian", quantity) for quantity in ("accuracy", "alpha")}
    rises = {name: curve.diff().iloc[1:].max() for name, curve in curves.items()}
    area = curves["accuracy"].mean()
    rows = evidence.select("accuracy", perturbation="layer_gaussian", width=WIDTH)
    areas = rows.pivot_table(index="seed", columns="layer", values="value", aggfunc="mean").rename(columns=number_of)
    deeper = rank_correlation(needed(areas, "perturbed networks"))
    found = (
        f"largest rise between neighbouring ε: of mean accuracy {rises['accuracy'].max():.4f}, of mean α "
        f"{rises['alpha'].max():.3f} (layer {rises['alpha'].idxmax()}); accuracy averaged over ε {listed(area, 3)} "
        f"at layers 1 to {area.index[-1]}; rank correlation with depth {deeper.text(2)}"
    )
    test = "no rise above 0.002 of mean accuracy or 0.01 of mean α; accuracy averaged over ε grows with depth"
    falling = bool(rises["accuracy"].max() < 0.002) and bool(rises["alpha"].max() < 0.01)
    return Finding(verdict(falling, deeper.above_zero), found, test)


def _j7(evidence: Evidence) -> Finding:
    accuracy, alpha = (_curves(evidence, "layer_gaussian", name) for name in ("accuracy", "alpha"))
    fits = {}
    for layer in list[Any](accuracy):
        below = (alpha[layer] < 1) & (alpha.index > 0)
        if below.sum() >= 3:
            fits[layer] = (stats.linregress(alpha[layer][below], accuracy[layer][below]), int(below.sum()))
    if not {1, 2, 3} <= set(fits):
        raise NotTestedError("strengths at which the mean α of layers 1, 2 and 3 is below 1, three for each")
    found = "; ".join(
        f"layer {layer}: slope {fit.slope:.2f} ± {fit.stderr:.2f}"
        + (f" (paper {_PAPERS_SLOPES[layer]})" if layer in _PAPERS_SLOPES else "")
        + f", R² {fit.rvalue**2:.3f}, {count} strengths"
        for layer, (fit, count) in fits.items()
    )
    early = [fits[layer][0].rvalue ** 2 for layer in (1, 2, 3)]
    later = [fit.rvalue**2 for layer, (fit, _) in fits.items() if layer > 3]
    test = "accuracy against α of means over networks, strengths with α below 1: R² above 0.99 in layers 1 to 3, and not beyond"
    return Finding(verdict(min(early) > 0.99, not later or max(later) < 0.99), found, test)


def _j8(evidence: Evidence) -> Finding:
    def peak(kind: str, quantity: str) -> tuple[Any, float, Interval, Interval]:
        """Layer and weak ε where the mean curve is highest above ε = 0; the gain there, and the fall from there to the last ε."""
        curves = _each_curve(evidence, kind, quantity)
        mean = curves.groupby("strength").mean()
        weak = mean[(mean.index > 0) & (mean.index <= _WEAK)]
        gains = weak.max() - mean.loc[0.0]
        layer: Any = gains.idxmax()
        epsilon: Any = weak[layer].idxmax()
        own = curves[layer].unstack("strength").dropna()
        return layer, epsilon, interval(own[epsilon] - own[0.0]), interval(own[epsilon] - own[own.columns.max()])

    parts: list[str] = []
    fgsm: list[bool] = []
    noise: list[bool] = []
    for kind in ("layer_fgsm", "layer_gaussian"):
        for quantity in ("alpha", "accuracy"):
            layer, epsilon, gain, fall = peak(kind, quantity)
            parts.append(f"{kind.removeprefix('layer_')}, {quantity}: {gain.text()} at ε = {epsilon:g}, layer {layer}")
            peaked = gain.above_zero and fall.above_zero and gain.mean > 0.01
            (fgsm if kind == "layer_fgsm" else noise).append(peaked)
    test = f"at some ε up to {_WEAK:g} α and accuracy lie 0.01 above ε = 0 and fall from there; under FGSM, not noise"
    return Finding(verdict(*fgsm, not any(noise)), f"largest gain over ε = 0: {'; '.join(parts)}", test)


def _j9(evidence: Evidence) -> Finding:
    parts, deviations = [], []
    for kind, size in (("layer_gaussian", 35), ("layer_fgsm", 30)):
        alpha, dimension = _curves(evidence, kind, "alpha"), _curves(evidence, kind, "dimension")
        chosen = [strength for strength in (0.0, 0.5, 3.0) if strength in alpha.index]
        if len(chosen) < 3:
            raise NotTestedError("networks perturbed with ε of 0.5 and 3")
        measured = dimension.loc[chosen].to_numpy().ravel()
        theory = np.array([power_law_dimension(value, size) for value in alpha.loc[chosen].to_numpy().ravel()])
        deviation = float(np.nanmedian(np.abs(measured / theory - 1)))
        deviations.append(deviation)
        parts.append(
            f"{kind.removeprefix('layer_')}, N = {size}: median |D / D(α) − 1| {deviation:.2f} over layers and ε of {chosen}"
        )
    test = f"median relative deviation from the sum of Eq. (5) below {_ROUGHLY}"
    return Finding(verdict(*(value < _ROUGHLY for value in deviations)), "; ".join(parts), test)


def _j10(evidence: Evidence) -> Finding:
    rows = evidence.select("alpha_stderr", perturbation="stimuli", width=WIDTH)
    if not (rows["strength"] >= _ENOUGH).any():
        raise NotTestedError(f"networks read with several numbers of stimuli, {_ENOUGH} and more")
    spread = rows.groupby("strength")["value"].max()
    between = _alphas(evidence).std().mean()
    found = "largest standard error of α, any layer and network: " + ", ".join(
        f"{value:.3f} (k = {count:g})" for count, value in spread.items()
    )
    test = f"standard error below 0.02 in every layer and network for k of {_ENOUGH} and more"
    return Finding(
        verdict(bool((spread[spread.index >= _ENOUGH] < 0.02).all())),
        f"{found}; standard deviation between networks {between:.3f} (mean over layers)",
        test,
    )


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
    Claim("J7", "fig6", "In layers 1-3 accuracy is linear in α below α of about 1, with R² > 0.99; not beyond layer 3.", _j7),
    Claim("J8", "fig7", "Under FGSM α and accuracy show a peak at weak ε, unlike under Gaussian noise.", _j8),
    Claim("J9", "fig8", "Measured D agrees roughly with D(α), N = 35 (Gaussian) and N = 30 (FGSM).", _j9, window="own"),
    Claim("J10", "stimuli", "Fluctuations of α from the choice of stimuli are negligible for k ≥ 2000.", _j10, window="own"),
)


def _slope(layer: int) -> Callable[[Evidence], pd.Series]:
    """Slope of accuracy against exponent under Gaussian noise, where the networks' mean exponent is below 1; of each network."""

    def measure(evidence: Evidence) -> pd.Series:
        accuracy, alpha = (_each_curve(evidence, "layer_gaussian", name)[layer].unstack("seed") for name in ("accuracy", "alpha"))
        below = (alpha.mean(axis=1) < 1) & (alpha.index > 0)
        return pd.Series({seed: stats.linregress(alpha[seed][below], accuracy[seed][below]).slope for seed in alpha})

    return measure


def _share(evidence: Evidence) -> pd.Series:
    share = _table(evidence, "variance_first_ten", perturbation="unperturbed")
    return share[deep_layers(share)].mean(axis=1)


PUBLISHED = (
    Published(f"share of the variance in ten components, layers {DEEP} and deeper", "fig3", 0.95, 1.0, _share),
    *(
        Published(
            f"slope of accuracy against α under Gaussian noise, layer {layer}", "fig6", slope, None, _slope(layer), exponents=True
        )
        for layer, slope in _PAPERS_SLOPES.items()
    ),
)
