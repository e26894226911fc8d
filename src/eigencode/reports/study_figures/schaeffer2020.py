"""Figures of Schaeffer, Casademunt & Mudur 2020."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from eigencode.reports.study_figures.drawing import Draw, colours, finish, panels_of, spectrum
from eigencode.studies.evidence import Evidence
from eigencode.studies.papers.schaeffer2020 import LIBRARYS
from eigencode.studies.study import MADE

_TITLES = {
    "gaussian": "images with Gaussian noise, by its standard deviation",
    "pure_noise": "noise alone, by its standard deviation",
    "pca": "images on their first principal components",
    "zca": "whitened images, by what is added to the variances",
}


def _plain_spectra(evidence: Evidence) -> pd.DataFrame:
    """Of networks without penalties, of the first seed."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["covariance"] == 0) & (spectra["jacobian"] == 0)]
    chosen: pd.DataFrame = spectra[spectra["seed"] == spectra["seed"].min()]
    return chosen


def _under(*kinds: str) -> Draw:
    """Schaeffer Figs 3 and 4: spectra of one network under each strength of perturbations."""

    def make(evidence: Evidence) -> Figure | None:
        spectra = _plain_spectra(evidence)
        spectra = spectra[spectra["perturbation"].isin(["unperturbed", *kinds]) & (spectra["adversarial"] == 0)]
        if spectra["perturbation"].nunique() < 2:
            return None
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


def _networks(evidence: Evidence) -> Figure | None:
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


def _made_sets(evidence: Evidence) -> Figure | None:
    """Schaeffer Fig. 5: spectra on images that networks made."""
    spectra = _plain_spectra(evidence)
    own = spectra[spectra["perturbation"].isin(MADE) & (spectra["adversarial"] == 0)]
    if own.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.2)
    for (_, row), colour in zip(own.iterrows(), colours(len(own)), strict=True):
        spectrum(panel, row, row["perturbation"].replace("_", " "), color=colour)
    base = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["adversarial"] == 0)].iloc[0]
    spectrum(panel, base, "test images", color="black", ls="--")
    finish(panel, "network without penalties", evidence.fitted)
    return figure


def _budget(trained: str) -> float:
    """Budget of adversarial training: of "l2 0.25", or of the Robustness library's file cifar_l2_0_25.pt; 0 for cifar_nat.pt."""
    number = trained.removesuffix(".pt").replace("l2_", "l2 ").rpartition("l2 ")[2].replace("_", ".")
    return float(number) if number.replace(".", "").isdigit() else 0.0


def _adversarially_trained(evidence: Evidence) -> Figure | None:
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


def _penalised(evidence: Evidence) -> Figure | None:
    """Schaeffer Fig. 7: spectra under covariance penalties, and accuracy under attack under Jacobian penalties."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["jacobian"] == 0) & (spectra["adversarial"] == 0)]
    spectra = spectra[spectra["seed"] == spectra["seed"].min()].drop_duplicates("covariance").sort_values("covariance")
    attacked = evidence.select("accuracy", perturbation="pgd", covariance=0.0)
    if spectra.empty or attacked.empty:
        return None
    figure, panels = panels_of(2, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), colours(len(spectra)), strict=True):
        spectrum(panels[0], row, f"c1 = {row['covariance']:g}", color=colour)
    finish(panels[0], "covariance penalties", evidence.fitted)
    strongest = attacked[attacked["strength"] == attacked["strength"].max()]
    base = strongest[strongest["jacobian"] == 0]
    for kind, own in strongest[strongest["jacobian"] > 0].groupby("jacobian_kind"):
        over = pd.concat([base, own]).groupby("jacobian")["value"]
        panels[1].errorbar(over.mean().index, over.mean(), yerr=over.std(), fmt="o-", ms=3, lw=1, capsize=2, label=str(kind))
    panels[1].set(xlabel="c2", ylabel=f"accuracy under PGD, ε = {attacked['strength'].max():.3f}")
    panels[1].legend(fontsize=7, frameon=False)
    return figure


def _robustness_against_alpha(evidence: Evidence) -> Figure | None:
    """Schaeffer Fig. 8: accuracy under attack against the exponent, one dot for each network."""
    attacked = evidence.select("accuracy", perturbation="pgd")
    attacked = evidence.with_alpha(attacked, "unperturbed").dropna(subset="alpha")
    if attacked.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.0)
    groups = list(attacked.groupby("strength"))
    for (strength, own), colour in zip(groups, colours(len(groups)), strict=True):
        panel.plot(own["alpha"], own["value"], "o", ms=4, color=colour, alpha=0.7, label=f"ε = {float(str(strength)):.3f}")
    panel.set(xlabel="exponent α", ylabel="accuracy under PGD")
    panel.legend(fontsize=7, frameon=False)
    return figure


FIGURES: dict[str, Draw] = {
    "fig2": _networks,
    "fig3": _under("gaussian", "pure_noise"),
    "fig4": _under("pca", "zca"),
    "fig5": _made_sets,
    "fig6": _adversarially_trained,
    "released": _adversarially_trained,
    "fig7": _penalised,
    "fig8": _robustness_against_alpha,
}
