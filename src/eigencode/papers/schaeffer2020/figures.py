"""Figures of Schaeffer, Casademunt & Mudur 2020."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode.papers.schaeffer2020.penalised import under_attack
from eigencode.papers.schaeffer2020.study import LIBRARYS
from eigencode.perturbations.specification import MADE
from eigencode.reports.study_drawing import Draw, colours, finish, legend, panels_of, spectrum
from eigencode.studies.results.table import StudyResults, single

if TYPE_CHECKING:
    from pandas.api.typing import SeriesGroupBy

_TITLES = {
    "gaussian": "images with Gaussian noise, by its standard deviation",
    "pure_noise": "noise alone, by its standard deviation",
    "pca": "images on their first principal components",
    "zca": "whitened images, by what is added to the variances",
}


def _plain_spectra(evidence: StudyResults) -> pd.DataFrame:
    """Of networks without penalties, of the first seed."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["covariance"] == 0) & (spectra["jacobian"] == 0)]
    chosen: pd.DataFrame = spectra[spectra["seed"] == spectra["seed"].min()]
    return chosen


def _under(*kinds: str) -> Draw:
    """Schaeffer Figs 3 and 4: spectra of one network under each strength of perturbations."""

    def make(evidence: StudyResults) -> Figure | None:
        spectra = _plain_spectra(evidence)
        spectra = spectra[spectra["perturbation"].isin(["unperturbed", *kinds]) & (spectra["adversarial"] == 0)]
        if spectra["perturbation"].nunique() < 2:
            return None
        spectra = single(spectra, "perturbation", "strength")
        base = spectra[spectra["perturbation"] == "unperturbed"].iloc[0]
        figure, panels = panels_of(len(kinds), height=4.2)
        for panel, kind in zip(panels, kinds, strict=True):
            own = spectra[spectra["perturbation"] == kind].sort_values("strength")
            for (_, row), colour in zip(own.iterrows(), colours(len(own)), strict=True):
                spectrum(panel, row, f"{row['strength']:g}", color=colour)
            spectrum(panel, base, "unperturbed", color="black", ls="--")
            finish(panel, _TITLES[kind], evidence.fitted)
        return figure

    return make


def _networks(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 2: spectra of the ImageNet networks."""
    spectra = evidence.spectra
    spectra = spectra[[str(model).startswith("torchvision:") for model in spectra["model"]]]
    if spectra.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), colours(len(spectra)), strict=True):
        spectrum(panel, row, row["model"].removeprefix("torchvision:"), color=colour)
    finish(panel, "penultimate layer", evidence.fitted)
    return figure


def _made_sets(evidence: StudyResults) -> Figure | None:
    """Schaeffer Fig. 5: spectra on images that networks made."""
    spectra = _plain_spectra(evidence)
    spectra = spectra[spectra["adversarial"] == 0]
    own = spectra[spectra["perturbation"].isin(MADE)]
    if own.empty:
        return None
    own = single(own, "perturbation", "strength")
    figure, (panel,) = panels_of(1, height=4.2)
    for (_, row), colour in zip(own.iterrows(), colours(len(own)), strict=True):
        spectrum(panel, row, row["perturbation"].replace("_", " "), color=colour)
    base = spectra[spectra["perturbation"] == "unperturbed"].iloc[0]
    spectrum(panel, base, "test images", color="black", ls="--")
    finish(panel, "network without penalties", evidence.fitted)
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
    """Schaeffer Fig. 8: accuracy under attack against the exponent, one dot for each network; the paper's bound of about 1."""
    attacked = evidence.select("accuracy", perturbation="pgd")
    attacked = evidence.with_alpha(attacked, "unperturbed").dropna(subset="alpha")
    if attacked.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.0)
    groups = list(attacked.groupby("strength"))
    for (strength, own), colour in zip(groups, colours(len(groups)), strict=True):
        panel.plot(own["alpha"], own["value"], "o", ms=4, color=colour, alpha=0.7, label=f"ε = {float(str(strength)):.3f}")
    panel.axvline(1, color="red", lw=1, label="bound of about 1")
    panel.set(xlabel="exponent α", ylabel="accuracy under PGD")
    legend(panel, fontsize=7)
    return figure


FIGURES: dict[str, Draw] = {
    "fig2": _networks,
    "fig3": _under("gaussian", "pure_noise"),
    "fig3_imagenet": _under("gaussian", "pure_noise"),
    "fig4": _under("pca", "zca"),
    "fig5": _made_sets,
    "fig6": _adversarially_trained,
    "released": _adversarially_trained,
    "fig7": _penalised,
    "fig8": _robustness_against_alpha,
}
