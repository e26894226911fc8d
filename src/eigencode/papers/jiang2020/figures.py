"""Figures of Jiang, Zhou & Huang 2020."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from eigencode._text import for_figure
from eigencode.papers.jiang2020.layers import DEEP, EXAMPLE
from eigencode.papers.jiang2020.perturbed import FEWEST_STRENGTHS, STATED_SLOPES
from eigencode.papers.jiang2020.study import WIDTH, dimension_of, number_of
from eigencode.reports.study_drawing import Draw, beside, colours, finish, fitted_line, legend, panels_of, spectrum
from eigencode.spectra.dimension import power_law_dimension
from eigencode.studies.results.table import StudyResults


def _by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(number=rows["layer"].map(number_of)).sort_values("number")


def _errors(evidence: StudyResults) -> Figure | None:
    """Jiang Fig. 2: training (lines) and test error (symbols) over epochs."""
    rows = _by_layer(evidence.select("accuracy", width=WIDTH, epoch=None, perturbation=["training", "held_out"]))
    if rows.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.2)
    groups = list(rows.groupby("number"))
    for (number, own), colour in zip(groups, colours(len(groups)), strict=True):
        for condition, style in (("training", "-"), ("held_out", "o")):
            mean = 1 - own[own["perturbation"] == condition].groupby("epoch")["value"].mean()
            label = f"layer {number}" if style == "-" else None
            panel.plot(mean.index, mean, style, color=colour, ms=2.5, lw=1, label=label)
    panel.set(xlabel="epoch", ylabel="error rate", yscale="log", title="lines: training, symbols: test")
    legend(panel, fontsize=7)
    return figure


def _spectra_of_layers(evidence: StudyResults) -> Figure | None:
    """Jiang Fig. 3: a, spectra of all layers of one network, with a recording as its inset; b, the fit of the example layer."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["width"] == WIDTH)]
    if spectra.empty:
        return None
    spectra = _by_layer(spectra[spectra["seed"] == spectra["seed"].min()])
    figure, panels = panels_of(2, height=4.4)
    for (_, row), colour in zip(spectra.iterrows(), colours(len(spectra)), strict=True):
        spectrum(panels[0], row, f"layer {row['number']}", color=colour)
    finish(panels[0], "one network; grey: ranks of the fit", evidence.fitted)
    if evidence.recording:
        panels[0].set_ylim(top=panels[0].get_ylim()[1] * 1e3)  # room for the inset
        inset = panels[0].inset_axes((0.6, 0.66, 0.38, 0.28))
        beside(inset, evidence.recording)
        inset.set_title(for_figure(evidence.recording.name), fontsize=6)
        inset.tick_params(labelsize=6)
        legend(panels[0], fontsize=7, loc="lower left")
    for _, row in spectra[spectra["number"] == EXAMPLE].iterrows():
        spectrum(panels[1], row, f"layer {EXAMPLE}", color="tab:blue", marker="o", ms=2.5)
        alpha = fitted_line(panels[1], row, evidence.fit_window, color="tab:red", lw=1.2)
        if alpha is not None:
            panels[1].lines[-1].set_label(f"α = {alpha:.2f}")
    finish(panels[1], "the paper's example layer", evidence.fitted)
    return figure


def _along_layers(evidence: StudyResults) -> Figure | None:
    """Jiang Fig. 4: accuracy and exponent along the layers, for each width."""
    if evidence.select("accuracy", perturbation="held_out")["layer"].map(number_of).empty:
        return None
    figure, panels = panels_of(2)
    for panel, (quantity, condition, title) in zip(
        panels, (("accuracy", "held_out", "test accuracy"), ("alpha", "unperturbed", "exponent α")), strict=True
    ):
        rows = _by_layer(evidence.select(quantity, perturbation=condition))
        groups = list(rows.groupby("width"))
        for (width, own), colour in zip(groups, colours(len(groups)), strict=True):
            over = own.groupby("number")["value"]
            panel.errorbar(
                over.mean().index,
                over.mean(),
                yerr=over.std(),
                color=colour,
                capsize=2,
                marker="o",
                ms=3,
                lw=1,
                label=f"N = {width:g}",
            )
        panel.set(xlabel="layer", ylabel=title)
    legend(panels[0], fontsize=7)
    panels[1].axhline(1, color="grey", ls=":", lw=0.8)
    panels[1].set_title("dotted: α = 1", loc="left", fontsize=9)
    panels[0].set_title("mean and standard deviation over networks", loc="left", fontsize=9)
    return figure


def _alpha_against_accuracy(evidence: StudyResults) -> Figure | None:
    """Jiang Fig. 5: exponent against accuracy, with standard errors."""
    accuracy, alpha = _of_layers(
        evidence.select("accuracy", perturbation="held_out", width=WIDTH),
        evidence.select("alpha", perturbation="unperturbed", width=WIDTH),
    )
    if accuracy.empty:
        return None
    figure, (panel,) = panels_of(1, height=4.0)
    panel.errorbar(accuracy["mean"], alpha["mean"], xerr=accuracy["sem"], yerr=alpha["sem"], fmt="o-", ms=4, lw=1, capsize=2)
    for number, across, up in zip(accuracy.index, accuracy["mean"], alpha["mean"], strict=True):
        panel.annotate(str(number), (across, up), xytext=(4, 4), textcoords="offset points", fontsize=8)
    panel.axhline(1, color="grey", ls=":", lw=0.8)
    panel.set(xlabel="test accuracy", ylabel="exponent α")
    panel.set_title(f"{accuracy['count'].max()} networks with standard errors\nnumbers are layers; dotted: α = 1", fontsize=9)
    return figure


def _attacked(kind: str) -> Draw:
    """Jiang Figs 6 and 7: accuracy and exponent against strength, and against each other, with deeper layers enlarged."""

    def make(evidence: StudyResults) -> Figure | None:
        networks = list(evidence.select("accuracy", perturbation=kind, width=WIDTH)["network"])
        curves = dict[str, Any]()
        for quantity in ("accuracy", "alpha"):
            rows = _by_layer(evidence.select(quantity, perturbation=[kind, "unperturbed"], network=networks))
            rows = rows[~rows.duplicated(["network", "layer", "strength"])]  # at strength 0 both may be there
            curves[quantity] = rows.groupby(["strength", "number"])["value"].agg(["mean", "std"]).unstack("number")
        if any(curve.empty for curve in curves.values()):
            return None
        figure, panels = panels_of(2, rows=2)
        layers = [number for number in curves["alpha"]["mean"] if number in curves["accuracy"]["mean"]]
        for number, colour in zip(layers, colours(len(layers)), strict=True):
            for panel, quantity in zip(panels[:2], ("accuracy", "alpha"), strict=True):
                mean, spread = (curves[quantity][part][number].dropna() for part in ("mean", "std"))
                panel.plot(mean.index, mean, color=colour, lw=1.1, label=f"layer {number}")
                panel.fill_between(
                    spread.index, mean[spread.index] - spread, mean[spread.index] + spread, color=colour, alpha=0.15, lw=0
                )
            both = pd.concat([curves[quantity]["mean"][number] for quantity in ("accuracy", "alpha")], axis=1).dropna()
            for panel in panels[2:] if number > DEEP else panels[2:3]:
                panel.plot(both.iloc[:, 0], both.iloc[:, 1], "o-", color=colour, ms=2.5, lw=0.8)
        panels[0].set(xlabel="ε", ylabel="test accuracy")
        panels[1].set(xlabel="ε", ylabel="exponent α")
        for panel in panels[2:]:
            panel.set(xlabel="test accuracy", ylabel="exponent α")
            panel.axhline(1, color="grey", ls=":", lw=0.8)
        if kind == "layer_gaussian":
            _slopes(panels[2], curves)
        legend(panels[0], fontsize=6, **({"loc": (0.5, 0.12), "ncols": 2} if kind == "layer_fgsm" else {}))
        panels[0].set_title("mean and standard deviation over networks", loc="left", fontsize=9)
        panels[3].locator_params(axis="x", nbins=5)
        panels[3].set_title(f"layers beyond {DEEP}; dotted: α = 1", loc="left", fontsize=9)
        return figure

    return make


def _slopes(panel: Axes, curves: dict[str, Any]) -> None:
    """Lines through the first layers at strengths with α below 1, and their slopes dα/dA beside the paper's."""
    for layer, stated in STATED_SLOPES.items():
        if not all(layer in curve["mean"] for curve in curves.values()):
            continue
        both = pd.concat([curves[quantity]["mean"][layer] for quantity in ("accuracy", "alpha")], axis=1).dropna()
        both = both[(both.iloc[:, 1] < 1) & (both.index > 0)]
        if len(both) < FEWEST_STRENGTHS or both.iloc[:, 0].nunique() < 2:
            continue
        line = stats.linregress(both.iloc[:, 0], both.iloc[:, 1])
        ends = both.iloc[[0, -1], 0]
        label = f"layer {layer}: dα/dA {line.slope:.2f} (paper {stated:g}), R² {line.rvalue**2:.3f}"
        panel.plot(ends, line.intercept + line.slope * ends, "--", color="tab:red", lw=1, label=label)
    legend(panel, fontsize=6)


def _dimensions(evidence: StudyResults) -> Figure | None:
    """Jiang Fig. 8: dimension against exponent, of power laws (a), and measured, with Eq. (5) (b, c)."""
    if evidence.select("alpha", perturbation="unperturbed", width=WIDTH).empty:
        return None
    figure, panels = panels_of(3, height=4.0)
    _of_power_laws(panels[0])
    for panel, (kind, size) in zip(panels[1:], (("layer_gaussian", 35), ("layer_fgsm", 30)), strict=True):
        grid = np.linspace(0.1, 2.2, 60)
        panel.plot(
            grid, [power_law_dimension(value, size) for value in grid], "--", color="green", lw=1, label=f"Eq. (5), N = {size}"
        )
        for strength, colour in zip((0.0, 0.5, 3.0), colours(3), strict=True):
            where = {"perturbation": kind if strength else "unperturbed", "strength": strength, "width": WIDTH}
            alpha, dimension = _of_layers(evidence.select("alpha", **where), evidence.select(dimension_of(evidence), **where))
            if alpha.empty:
                continue
            panel.errorbar(
                alpha["mean"],
                dimension["mean"],
                xerr=alpha["std"],
                yerr=dimension["std"],
                fmt="o",
                ms=3.5,
                lw=0.8,
                color=colour,
                label=f"ε = {strength:g}",
            )
        of = "images" if dimension_of(evidence) == "dimension" else "population"
        panel.set(xlabel="exponent α", ylabel=f"dimension D of the {of}", title=kind.removeprefix("layer_"))
        legend(panel, fontsize=7, title="mean and standard deviation", title_fontsize=7)
    return figure


def _of_layers(*quantities: pd.DataFrame) -> list[pd.DataFrame]:
    """Of each quantity, its mean, std, sem and count over networks, in the layers that have all of the quantities."""
    each = [_by_layer(rows).groupby("number")["value"].agg(["mean", "std", "sem", "count"]) for rows in quantities]
    common = [number for number in each[0].index if all(number in other.index for other in each)]
    return [table.loc[common] for table in each]


def _of_power_laws(panel: Axes) -> None:
    """D(alpha) of Eq. (5): the sum, its integral approximation, and the limit of many units."""
    sizes = (35, WIDTH, 1000)
    for size, colour in zip(sizes, colours(len(sizes)), strict=True):
        grid = np.linspace(0.05, 2.2, 87)
        for form, style in (("integral", "-"), ("sum", ":")):
            dimensions = [power_law_dimension(value, size, form=form) for value in grid]  # type: ignore[arg-type]
            panel.plot(grid, dimensions, style, color=colour, lw=1, label=f"N = {size}" if form == "integral" else None)
    grid = np.linspace(1.05, 2.2, 47)
    panel.plot(grid, [power_law_dimension(value, form="zeta") for value in grid], color="black", lw=1, label="N → ∞")
    panel.set(xlabel="exponent α", ylabel="dimension D", yscale="log", title="power laws: integral (lines), sum (dots)")
    legend(panel, fontsize=7)


def _stimuli(evidence: StudyResults) -> Figure | None:
    """Standard error of the exponent against the number of test images."""
    rows = _by_layer(evidence.select("alpha_stderr", perturbation="stimuli", width=WIDTH))
    if rows.empty:
        return None
    figure, (panel,) = panels_of(1)
    groups = list(rows.groupby("number"))
    for (number, own), colour in zip(groups, colours(len(groups)), strict=True):
        mean = own.groupby("strength")["value"].mean()
        panel.plot(mean.index, mean, "o-", color=colour, ms=3, lw=1, label=f"layer {number}")
    panel.set(xlabel="number of images k", ylabel="standard error of α", yscale="log")
    legend(panel, fontsize=7)
    return figure


_SETTING = {"member.learning_rate": "rate", "network.options.classifier_std": "J", "network.options.initial_gain": "gain"}


def _over_settings(evidence: StudyResults) -> Figure | None:
    """Exponents along the layers at every setting of what the paper leaves open, a panel for each number of epochs."""
    rows = _by_layer(evidence.select("alpha", perturbation="unperturbed", width=WIDTH))
    varied = [name for name in _SETTING if name in rows]
    if rows.empty or not varied:
        return None
    each = list(rows.groupby("epochs"))
    figure, panels = panels_of(len(each), height=4.0)
    settings = sorted(set(rows[varied].itertuples(index=False, name=None)))
    shades = dict(zip(settings, colours(len(settings)), strict=True))
    for panel, (epochs, own) in zip(panels, each, strict=True):
        for values, group in own.groupby(varied):
            over = group.groupby("number")["value"].agg(["mean", "std"])
            label = ", ".join(f"{_SETTING[name]} {value:.3g}" for name, value in zip(varied, values, strict=True))
            panel.errorbar(
                over.index, over["mean"], yerr=over["std"], fmt="o-", ms=3, lw=1, capsize=2, color=shades[values], label=label
            )
        panel.axhline(1, color="grey", ls=":", lw=0.8)
        panel.set(xlabel="layer", title=f"{epochs} epochs")
    panels[0].set_ylabel("exponent α")
    fullest = max(panels, key=lambda panel: len(panel.containers))
    legend(fullest, fontsize=6, title="mean and standard deviation", title_fontsize=6)
    return figure


FIGURES: dict[str, Draw] = {
    "fig2": _errors,
    "fig3": _spectra_of_layers,
    "fig4": _along_layers,
    "fig5": _alpha_against_accuracy,
    "fig6": _attacked("layer_gaussian"),
    "fig7": _attacked("layer_fgsm"),
    "fig8": _dimensions,
    "stimuli": _stimuli,
    "settings": _over_settings,
}
