"""Figures of Schaeffer, Casademunt & Mudur 2020."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode.papers.schaeffer2020.imagenet import name_of, of_imagenet
from eigencode.papers.schaeffer2020.inputs import PLAIN, STATED_EXPONENTS
from eigencode.papers.schaeffer2020.penalised import under_attack
from eigencode.papers.schaeffer2020.study import LIBRARYS, NOISE_ALONE
from eigencode.perturbations.specification import MADE
from eigencode.reports.study_drawing import Draw, beside, colours, finish, legend, panels_of, spectrum
from eigencode.studies.definition import SETTINGS
from eigencode.studies.results.table import StudyResults, single

if TYPE_CHECKING:
    from pandas.api.typing import SeriesGroupBy

_TITLES = {
    "gaussian": "images with Gaussian noise, by its standard deviation",
    "pure_noise": "noise alone, of mean 0, by its standard deviation",
    "grey_noise": "noise alone, of mean 0.5, by its standard deviation",
    "pca": "images on their first principal components",
    "zca": "whitened images, by what is added to the variances",
}


def _plain_spectra(evidence: StudyResults) -> pd.DataFrame:
    """Of networks without penalties, of the first seed."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["covariance"] == 0) & (spectra["jacobian"] == 0)]
    chosen: pd.DataFrame = spectra[spectra["seed"] == spectra["seed"].min()]
    return chosen


def _under_noise(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 3: spectra under each strength of noise, and of noise alone; a row for each network."""
    spectra = _plain_spectra(evidence)
    spectra = spectra[spectra["adversarial"] == 0]
    each = [own for _, own in spectra.groupby("model") if {"unperturbed", "gaussian"} <= set(own["perturbation"])]
    kinds = [kind for kind in ("gaussian", *NOISE_ALONE) if any(kind in set(own["perturbation"]) for own in each)]
    if not kinds or not each:
        return None
    figure, panels = panels_of(len(kinds), rows=len(each), height=4.2)
    for place, own in enumerate(each):
        for panel, kind in zip(panels[place * len(kinds) :], kinds, strict=False):
            if kind not in set(own["perturbation"]):
                panel.remove()
                continue
            _strengths(panel, own, kind, evidence.fitted)
            if len(each) > 1:
                panel.set_title(f"{name_of(str(own['model'].iloc[0]))}\n{_TITLES[kind]}", fontsize=9)
    return figure


def _strengths(panel: Axes, spectra: pd.DataFrame, kind: str, ranks: tuple[int, int] | None) -> None:
    """Spectra of one network under each strength of one perturbation."""
    spectra = single(spectra, "perturbation", "strength")
    own = spectra[spectra["perturbation"] == kind].sort_values("strength")
    for (_, row), colour in zip(own.iterrows(), colours(len(own)), strict=True):
        spectrum(panel, row, f"{row['strength']:g}", color=colour)
    spectrum(panel, spectra[spectra["perturbation"] == "unperturbed"].iloc[0], "unperturbed", color="black", ls="--")
    finish(panel, _TITLES[kind], ranks)


_ALL_COMPONENTS = 3072
"""Numbers of a CIFAR-10 image, where "all" of its components stand."""

_MOUSE = {8: 1.49, 4: 1.65, 1: 3.51, _ALL_COMPONENTS: 1.04}
"""Exponents of mouse V1 (Stringer et al. 2019) that the paper gives, by the dimension of the images."""

_PAPERS_NETWORK = {
    int(name.split()[1]) or _ALL_COMPONENTS: alpha
    for name, alpha in STATED_EXPONENTS.items()
    if name.split()[0] in ("pca", "unperturbed")
}
"""Exponents of the paper's network, likewise."""


def _dimension_of_images(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 4: exponents against the dimension of the images, beside the mouse's; then spectra."""
    spectra = _plain_spectra(evidence)
    spectra = spectra[(spectra["adversarial"] == 0) & (spectra["model"] == PLAIN["model"])]
    there = set(spectra["perturbation"])
    kinds = [kind for kind in ("pca", "zca") if kind in there]
    if not kinds or "unperturbed" not in there:
        return None
    recording = evidence.recording
    figure, panels = panels_of(1 + len(kinds) + bool(recording), height=4.2)
    _against_dimension(panels[0], evidence)
    for panel, kind in zip(panels[1:], kinds, strict=False):
        _strengths(panel, spectra, kind, evidence.fitted)
    if recording:
        beside(panels[-1], recording)
        panels[-1].set(xlabel="rank", ylabel="share of the variance", title="recording")
        legend(panels[-1], fontsize=7, loc="lower left")
    return figure


def _against_dimension(panel: Axes, evidence: StudyResults) -> None:
    rows = evidence.select("alpha", perturbation=["unperturbed", "pca"], **PLAIN)
    rows = rows.assign(dimension=rows["strength"].where(rows["perturbation"] == "pca", _ALL_COMPONENTS))
    over = rows.drop_duplicates(["network", "dimension"]).groupby("dimension")["value"]
    mean, spread, count = over.mean(), over.std(), rows["network"].nunique()
    panel.errorbar(mean.index, mean, yerr=spread, fmt="o-", ms=4, lw=1, capsize=2, color="tab:blue", label="this network")
    for values, colour, name in (
        (_PAPERS_NETWORK, "tab:orange", "the paper's network"),
        (_MOUSE, "tab:green", "mouse V1, as printed"),
    ):
        panel.plot(list(values), list(values.values()), "x", ms=6, color=colour, label=name)
    dimensions = np.geomspace(1, _ALL_COMPONENTS, 60)
    panel.plot(dimensions, 1 + 2 / dimensions, "--", lw=1, color="grey", label="1 + 2/d")
    panel.set(xscale="log", xlabel=f"dimension d of the images ({_ALL_COMPONENTS}: all)", ylabel="exponent α")
    over_ranks = f"; crosses over 10-316, ours over {evidence.ranks[0]}-{evidence.ranks[1]}" if evidence.ranks else ""
    panel.set_title(f"mean and standard deviation, n = {count}{over_ranks}", loc="left", fontsize=9)
    legend(panel, fontsize=7)


def _over_settings(evidence: StudyResults) -> Figure | None:
    """Exponents against the dimension of the images, and under noise and noise alone, of networks trained in each way."""
    rows = evidence.select("alpha", perturbation=["unperturbed", "pca", "gaussian", *NOISE_ALONE])
    varied = [name for name in ("epochs", "training.optimizer") if name in rows and rows[name].nunique() > 1]
    if rows.empty or not varied:
        return None
    each = list(rows.groupby(varied))
    panels_and_kinds = (("pca", "number of components"), ("gaussian", "standard deviation of the noise"))
    figure, panels = panels_of(2, height=4.2)
    for (setting, own), colour in zip(each, colours(len(each)), strict=True):
        label = ", ".join(f"{value:g} epochs" if isinstance(value, (int, float)) else str(value) for value in setting)
        for panel, (kind, _) in zip(panels, panels_and_kinds, strict=True):
            over = own[own["perturbation"] == kind].groupby("strength")["value"].agg(["mean", "std"])
            panel.errorbar(over.index, over["mean"], yerr=over["std"], fmt="o-", ms=3, lw=1, capsize=2, color=colour, label=label)
            panel.axhline(own[own["perturbation"] == "unperturbed"]["value"].mean(), color=colour, ls=":", lw=0.8)
        for kind, mark in zip(NOISE_ALONE, "x+", strict=True):
            alone = own[own["perturbation"] == kind].groupby("strength")["value"].mean()
            panels[1].plot(alone.index, alone, mark, color=colour, ms=6)
    for panel, (_, name) in zip(panels, panels_and_kinds, strict=True):
        panel.set(xscale="log", xlabel=name, ylabel="exponent α")
        legend(panel, fontsize=7)
    panels[0].set_title("dotted: on images; bars: standard deviations", loc="left", fontsize=9)
    panels[1].set_title("crosses: noise alone of mean 0 (x) and 0.5 (+)", loc="left", fontsize=9)
    return figure


def _networks(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 2: spectra of the ImageNet networks."""
    spectra = of_imagenet(evidence.spectra[evidence.spectra["perturbation"] == "unperturbed"])
    if spectra.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), colours(len(spectra)), strict=True):
        spectrum(panel, row, name_of(row["model"]), color=colour)
    finish(panel, "penultimate layer", evidence.fitted)
    return figure


def _made_sets(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 5: spectra on images that networks made, and what they are of the spectrum on test images."""
    spectra = _plain_spectra(evidence)
    spectra = spectra[spectra["adversarial"] == 0]
    own, plain = spectra[spectra["perturbation"].isin(MADE)], spectra[spectra["perturbation"] == "unperturbed"]
    if own.empty or plain.empty:
        return None
    own, base = single(own, "perturbation", "strength"), plain.iloc[0]
    figure, panels = panels_of(2, height=4.2)
    for (_, row), colour in zip(own.iterrows(), colours(len(own)), strict=True):
        name = row["perturbation"].replace("_", " ")
        spectrum(panels[0], row, name, color=colour)
        shown = min(int(np.sum(each["eigenvalues"] > each["floor"])) for each in (row, base))
        ratio = row["eigenvalues"][:shown] / base["eigenvalues"][:shown]
        panels[1].loglog(np.arange(1, shown + 1), ratio, color=colour, lw=1, label=name)
    spectrum(panels[0], base, "test images", color="black", ls="--")
    finish(panels[0], "network without penalties", evidence.fitted)
    panels[1].axhline(1, color="black", ls="--", lw=1)
    finish(panels[1], "ratio to the spectrum on test images", evidence.fitted)
    panels[1].set_ylabel("ratio of eigenvalues")
    return figure


def _budget(trained: str) -> float:
    """Budget of adversarial training: of "l2 0.25", or of the Robustness library's file cifar_l2_0_25.pt; 0 for cifar_nat.pt."""
    number = trained.removesuffix(".pt").replace("l2_", "l2 ").rpartition("l2 ")[2].replace("_", ".")
    return float(number) if number.replace(".", "").isdigit() else 0.0


def _adversarially_trained(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 6: the most robust network on the four sets, and all networks on the set of robust features."""
    spectra = _plain_spectra(evidence)
    spectra = spectra[spectra["perturbation"].isin(MADE)]
    library = spectra[spectra["model"] == LIBRARYS]
    spectra = (spectra if library.empty else library).sort_values(["adversarial", "trained"])
    groups = sorted((own for _, own in spectra.groupby("network")), key=lambda own: _budget(own["trained"].iloc[0]))
    if len(groups) < 2:
        return None
    figure, panels = panels_of(2, height=4.2)
    for (_, row), colour in zip(groups[-1].iterrows(), colours(len(groups[-1])), strict=True):
        spectrum(panels[0], row, row["perturbation"].replace("_", " "), color=colour)
    finish(panels[0], f"trained: {groups[-1]['trained'].iloc[0]}", evidence.fitted)
    for own, colour in zip(groups, colours(len(groups)), strict=True):
        for _, row in own[own["perturbation"] == "robust"].iterrows():
            spectrum(panels[1], row, row["trained"], color=colour)
    finish(panels[1], "on robust features", evidence.fitted)
    return figure


def _penalised(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 7: spectra and exponents under covariance penalties, accuracy under attack under Jacobian penalties.

    Lines are networks with the column sums of the Jacobian; those with the other norms, and no covariance penalty, are dashed.
    """
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["model"] == "schaeffer_cnn")]
    spectra = spectra[(spectra["jacobian"] == 0) & (spectra["adversarial"] == 0)]
    spectra = spectra[spectra["seed"] == spectra["seed"].min()].drop_duplicates("covariance").sort_values("covariance")
    attacked = under_attack(evidence)
    if spectra.empty:
        return None
    figure, panels = panels_of(3, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), colours(len(spectra)), strict=True):
        spectrum(panels[0], row, f"c1 = {row['covariance']:g}", color=colour)
    finish(panels[0], "covariance penalties", evidence.fitted)
    strength = attacked["strength"].iloc[0]
    summed = attacked[attacked["jacobian_kind"] == "column_sum"]
    _lines(panels[1], summed, x="covariance", y="alpha", of="jacobian", name="c2")
    panels[1].set(xlabel="weight of the covariance penalty c1", ylabel="exponent α")
    _lines(panels[2], summed, x="jacobian", y="value", of="covariance", name="c1")
    others = attacked[attacked["jacobian_kind"] != "column_sum"].groupby("jacobian_kind")
    for (kind, own), mark in zip(others, "s^", strict=False):
        _line(panels[2], own.groupby("jacobian")["value"], label=f"c1 = 0, {kind}", color="grey", fmt=f"{mark}--")
    panels[2].set(xlabel="weight of the Jacobian penalty c2", ylabel=f"accuracy under PGD, ε = {strength:.3f}")
    panels[1].set_title("bars: standard deviations over networks", loc="left", fontsize=9)
    for panel in panels[1:]:
        legend(panel, fontsize=7)
    return figure


def _lines(panel: Axes, rows: pd.DataFrame, *, x: str, y: str, of: str, name: str) -> None:
    groups = list(rows.groupby(of))
    for (weight, own), colour in zip(groups, colours(len(groups)), strict=True):
        _line(panel, own.groupby(x)[y], label=f"{name} = {weight}", color=colour, fmt="o-")


def _line(panel: Axes, grouped: SeriesGroupBy[Any, Any], *, label: str, color: Any, fmt: str) -> None:
    """Means over networks with their standard deviations, of those that have the number."""
    mean = grouped.mean().dropna()
    error = grouped.std()[mean.index]
    panel.errorbar(mean.index, mean, yerr=error, fmt=fmt, color=color, ms=3, lw=1, capsize=2, label=label)


def _robustness_against_alpha(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 8: accuracy under attack against the exponent, one mark for each network; a panel for each strength."""
    attacked = evidence.select("accuracy", perturbation="pgd")
    attacked = evidence.with_alpha(attacked, "unperturbed").dropna(subset="alpha")
    if attacked.empty:
        return None
    each = list(attacked.groupby("strength"))
    weights = sorted(attacked["covariance"].unique()), sorted(attacked["jacobian"].unique())
    shades = dict(zip(weights[0], colours(len(weights[0])), strict=True))
    marks = dict(zip(weights[1], itertools.cycle("os^Dv<>P"), strict=False))
    figure, panels = panels_of(len(each), height=4.0)
    for panel, (strength, own) in zip(panels, each, strict=True):
        for (c1, c2), networks in own.groupby(["covariance", "jacobian"]):
            panel.plot(networks["alpha"], networks["value"], marks[c2], ms=5, color=shades[c1], alpha=0.8)
        panel.axvline(1, color="red", lw=1)
        panel.set(xlabel="exponent α", ylabel=f"accuracy under PGD, ε = {float(str(strength)):.3f}")
    panels[-1].plot([], [], color="red", lw=1, label="bound of about 1")
    for c1, shade in shades.items():
        panels[-1].plot([], [], "o", color=shade, label=f"c1 = {c1:g}")
    for c2, mark in marks.items():
        panels[-1].plot([], [], mark, color="grey", label=f"c2 = {c2:g}")
    legend(panels[-1], fontsize=7)
    return figure


FIGURES: dict[str, Draw] = {
    "fig2": _networks,
    "fig3": _under_noise,
    "fig3_imagenet": _under_noise,
    "fig4": _dimension_of_images,
    "fig5": _made_sets,
    "fig6": _adversarially_trained,
    "released": _adversarially_trained,
    "fig7": _penalised,
    "fig8": _robustness_against_alpha,
    SETTINGS: _over_settings,
}
