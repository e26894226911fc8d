"""Figures of Gerum, Pirlot, Fyshe & Zylberberg 2022."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode.papers.gerum2022.curves import published
from eigencode.reports.study_drawing import Draw, beside, colours, fitted_line, legend, panels_of
from eigencode.spectra.plotting import new_figure
from eigencode.spectra.window import Window
from eigencode.studies.results.table import StudyResults, single

_BETA_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "black")
"""The paper's: of the baseline, weak and strong regularisation first."""

_ALPHA = {"training": "exponent α of the last epoch's batches", "unperturbed": "exponent α on test images"}


def _against_alpha(panel: Axes, rows: pd.DataFrame) -> None:
    """Accuracies against exponents (column alpha): dots for networks, lines for means over seeds, a colour for each strength."""
    rows = single(rows, "beta", "target", "seed")
    for (beta, own), colour in zip(rows.groupby("beta"), itertools.cycle(_BETA_COLOURS), strict=False):
        panel.plot(own["alpha"], own["value"], "o", ms=3, color=colour, alpha=0.35, lw=0)
        mean = own.groupby("target")[["alpha", "value"]].mean().sort_values("alpha")
        panel.plot(mean["alpha"], mean["value"], "o-", ms=4, lw=1, color=colour, label=f"β = {beta:g}")


def _published(panel: Axes, model: str, data: str, condition: dict[str, Any]) -> None:
    """The paper's own curves, as lines of crosses with their standard errors."""
    kind = "none" if condition["perturbation"] == "held_out" else condition["perturbation"]
    own = published()
    own = own[(own["model"] == model) & (own["data"] == data) & (own["kind"] == kind)]
    own = own[own["epsilon"] == condition.get("strength", 0.0)]
    for (beta, curve), colour in zip(own.groupby("beta"), _BETA_COLOURS, strict=False):
        panel.errorbar(
            curve["alpha"],
            curve["accuracy"],
            yerr=curve["standard_error"],
            fmt="x:",
            ms=3.5,
            lw=0.8,
            color=colour,
            alpha=0.7,
            label=f"published, β = {beta:g}",
        )


def accuracy_against_alpha(
    model: str, epsilon: float, *, data: tuple[str, ...] = ("mnist", "digits"), form: str = "exponent"
) -> Draw:
    """Gerum Figs 2a-c and 3: accuracy, clean and attacked, against the exponent of the last epoch's batches."""

    def make(evidence: StudyResults) -> Figure | None:
        where = {"model": model, "data": list(data), "form": form}
        if evidence.select("alpha", perturbation=evidence.alpha_condition, **where).empty:
            return None
        strengths = evidence.select("accuracy", perturbation=["fgsm", "pgd"], **where)["strength"]
        conditions: list[dict[str, Any]] = [{"perturbation": "held_out"}]
        titles = ["accuracy"]
        if not strengths.empty:
            nearest = min(strengths, key=lambda strength: abs(strength - epsilon))  # a study may have been given other strengths
            conditions += [{"perturbation": kind, "strength": nearest} for kind in ("fgsm", "pgd")]
            titles += [f"accuracy under {kind}, ε = {nearest:g}" for kind in ("FGSM", "PGD")]
        figure, panels = panels_of(len(conditions))
        for panel, condition, title in zip(panels, conditions, titles, strict=True):
            rows = evidence.select("accuracy", **where, **condition)
            _against_alpha(panel, evidence.with_alpha(rows, evidence.alpha_condition))
            if form == "exponent":
                _published(panel, model, str(rows["data"].iloc[0]) if len(rows) else "", condition)
            panel.set(xlabel=_ALPHA[evidence.alpha_condition], ylabel=title)
        legend(panels[min(1, len(panels) - 1)], fontsize=7)
        panels[0].set_title("dots: networks, lines: means over seeds, crosses: published", loc="left", fontsize=9)
        return figure

    return make


_NETWORKS = {"deep MLP": "gerum_deep_mlp", "CNN": "gerum_cnn"}
_DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "digits"}


def _every_strength(evidence: StudyResults, form: str = "exponent") -> Figure | None:
    """Gerum Fig. S1: accuracy against the exponent; a row for each network and attack, a column for each of five strengths."""
    drawn = []
    for (network, model), (data, name), kind in itertools.product(_NETWORKS.items(), _DATA.items(), ("fgsm", "pgd")):
        rows = evidence.select("accuracy", perturbation=kind, form=form, model=model, data=data)
        if not rows.empty:
            drawn.append((f"{network}, {name}: {kind.upper()}", evidence.with_alpha(rows, evidence.alpha_condition)))
    if not drawn:
        return None
    strengths = [_strengths_that_leave_something(rows) for _, rows in drawn]
    columns = min(5, max(len(each) for each in strengths))
    figure = new_figure(2.4 * columns, 2.0 * len(drawn))
    grid = figure.subplots(len(drawn), columns, squeeze=False)
    for panels, (title, rows), own in zip(grid, drawn, strengths, strict=True):
        chosen = [own[place] for place in np.unique(np.linspace(0, len(own) - 1, columns).round().astype(int))]
        for panel, strength in zip(panels, chosen, strict=False):
            shown = rows[rows["strength"] == strength]
            _against_alpha(panel, shown)
            panel.set_title(f"ε = {strength:g}", fontsize=8)
            panel.tick_params(labelsize=7)
        for panel in panels[len(chosen) :]:
            panel.remove()
        panels[0].set_ylabel(f"{title}\naccuracy", fontsize=7)
    for panel in grid[-1]:
        panel.set_xlabel("exponent α", fontsize=7)
    legend(grid[0][0], fontsize=6)
    figure.suptitle(f"dots: networks, lines: means over seeds; {_ALPHA[evidence.alpha_condition]}", fontsize=8)
    return figure


_SOMETHING = 0.02
"""Accuracy below which an attack has left nothing to compare."""


def _strengths_that_leave_something(rows: pd.DataFrame) -> list[float]:
    """Strengths at which some network classifies two images in a hundred; all of them if there are none."""
    best = rows.groupby("strength")["value"].max()
    return sorted(best.index[best >= _SOMETHING] if (best >= _SOMETHING).any() else best.index)


def _learning(evidence: StudyResults) -> Figure | None:
    """Gerum Fig. 2d, e and f: exponents over training, and accuracy against strength."""
    where = {"model": "gerum_shallow_mlp", "form": "exponent"}
    rows = evidence.select("alpha", perturbation="training", epoch=None, **where)
    if rows.empty:
        return None
    rows = single(rows, "beta", "target", "seed", "epoch")
    betas = sorted(float(beta) for beta in rows["beta"].unique() if beta > 0)
    figure, panels = panels_of(len(betas) + 1)
    for panel, beta in zip(panels, betas, strict=False):
        groups = list(rows[rows["beta"] == beta].groupby("target"))
        for (target, own), colour in zip(groups, colours(len(groups)), strict=True):
            mean = own.groupby("epoch")["value"].mean()
            panel.plot(mean.index, mean, color=colour, lw=1.2, label=f"target {target:g}")
        base = rows[rows["beta"] == 0].groupby("epoch")["value"].mean()
        panel.plot(base.index, base, "--", color="black", lw=1, label="baseline")
        panel.set(xlabel="epoch", ylabel="exponent α of training batches", title=f"β = {beta:g}")
    attacked = single(evidence.select("accuracy", perturbation="pgd", **where), "beta", "target", "seed", "strength")
    chosen = attacked[(attacked["beta"] == 0) | attacked["target"].isin([1.0, 3.0, 5.0])]
    pairs = sorted({(float(row.beta), float(row.target)) for row in chosen.itertuples()})  # type: ignore[arg-type]
    for weight, target in pairs:
        own = chosen[(chosen["beta"] == weight) & (chosen["target"] == target)]
        mean = own.groupby("strength")["value"].mean()
        colour = _BETA_COLOURS[[0.0, *betas].index(weight)]
        style = {1.0: ":", 3.0: "--"}.get(target, "-") if weight else "-"
        panels[-1].plot(
            mean.index, mean, style, color=colour, lw=1.1, label=f"β = {weight}, target {target}" if weight else "baseline"
        )
    panels[-1].set(xlabel="ε", ylabel="accuracy under PGD")
    legend(panels[0], fontsize=6)
    legend(panels[-1], fontsize=6)
    return figure


def spectra_of_targets(evidence: StudyResults) -> Figure | None:
    """Gerum Fig. 1: c, a recording; e, a network without and one with regularisation, and their fits; then all targets."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["model"] == "gerum_shallow_mlp")]
    spectra = spectra[(spectra["form"] == "exponent") & (spectra["seed"] == spectra["seed"].min())]
    if spectra.empty:
        return None
    spectra = single(spectra, "beta", "target")
    chosen = spectra[(spectra["beta"] == spectra["beta"].max()) | (spectra["beta"] == 0)].sort_values(["beta", "target"])
    recording = evidence.recording
    figure, panels = panels_of(3 if recording else 2, height=4.2)
    if recording:
        beside(panels[0], recording)
        panels[0].set(xlabel="rank", ylabel="share of the variance", title="Fig. 1c: recording")
        legend(panels[0], fontsize=7, loc="lower left")
    _two_fitted(panels[-2], chosen, evidence.fit_window)
    for (_, row), colour in zip(chosen.iterrows(), colours(len(chosen)), strict=True):
        shares = _shares(row)
        label = f"target {row['target']:g}" if row["beta"] else "baseline"
        panels[-1].loglog(np.arange(1, len(shares) + 1), shares, color=colour if row["beta"] else "black", lw=1, label=label)
    if chosen["beta"].max() > 0:
        panels[-1].set_title(f"β = {chosen['beta'].max():g}, every target")
    for panel in panels[-2:]:
        if evidence.fitted:
            panel.axvspan(*evidence.fitted, color="grey", alpha=0.12, lw=0, label="ranks of the fit")
        panel.set(xlabel="rank", ylabel="share of the variance")
        legend(panel, fontsize=7)
    return figure


_AS_IN_BRAINS = 1.0
"""Exponent of mouse V1 (Stringer et al. 2019), to which a network of Fig. 1e is regularised."""


def _two_fitted(panel: Axes, chosen: pd.DataFrame, window: Window | None) -> None:
    """The baseline (orange, grey fit) and the network whose target is nearest to 1 (blue, black fit), as the paper has them."""
    regularised = chosen[chosen["beta"] > 0]
    nearest = regularised.loc[(regularised["target"] - _AS_IN_BRAINS).abs().sort_values().index[:1]]
    for rows, colour, fit in ((chosen[chosen["beta"] == 0], "tab:orange", "grey"), (nearest, "tab:blue", "black")):
        for _, row in rows.iterrows():
            shares = _shares(row)
            alpha = fitted_line(panel, row, window, scale=1 / row["eigenvalues"].sum(), color=fit, lw=2.5, alpha=0.6)
            name = f"target {row['target']:g}" if row["beta"] else "baseline"
            label = name if alpha is None else f"{name}, α = {alpha:.2f}"
            panel.loglog(np.arange(1, len(shares) + 1), shares, color=colour, lw=1.2, label=label)
    panel.set_title(f"Fig. 1e: fits, seed {chosen['seed'].iloc[0]}")


def _shares(row: pd.Series) -> np.ndarray:
    """Shares of the variance, of eigenvalues above rounding error."""
    values = row["eigenvalues"]
    shares: np.ndarray = values[values > row["floor"]] / values.sum()
    return shares


FIGURES: dict[str, Draw] = {
    "fig1e": spectra_of_targets,
    "fig2": accuracy_against_alpha("gerum_shallow_mlp", 0.05),
    "fig2d": _learning,
    "fig3a": accuracy_against_alpha("gerum_deep_mlp", 0.05),
    "fig3d": accuracy_against_alpha("gerum_cnn", 0.1),
    "fig3g": accuracy_against_alpha("gerum_cnn", 0.01, data=("cifar10", "digits")),
    "figS1": _every_strength,
    "line": accuracy_against_alpha("gerum_shallow_mlp", 0.05, form="line"),
    "lineS1": partial(_every_strength, form="line"),
}
