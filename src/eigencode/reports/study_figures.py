"""Figures of studies, like the papers': drawn from results alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode.reports.figures import new_figure
from eigencode.spectra.dimension import power_law_dimension
from eigencode.studies.evidence import Evidence
from eigencode.studies.papers.schaeffer2020 import LIBRARYS
from eigencode.studies.study import MADE

Draw = Callable[[Evidence], Figure | None]

_WIDTH = 200


def draw(name: str, evidence: Evidence) -> Figure | None:
    """The figure of a study, such as jiang2020.fig5; of a study of a user's own, its spectra; None without results.

    Args:
        name: Paper and figure.
        evidence: Results.

    Returns:
        Figure.
    """
    maker = _FIGURES.get(name, _own_spectra)
    return None if evidence.rows.empty else maker(evidence)


def _colours(count: int) -> Any:
    return colormaps["viridis"](np.linspace(0, 0.92, max(count, 1)))


def _layer_number(layer: str) -> int:
    return int(layer.split(".")[1]) + 1


def _panels(columns: int, *, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    figure = new_figure(4.2 * columns, height)
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def _by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(number=rows["layer"].map(_layer_number)).sort_values("number")


def _errors(evidence: Evidence) -> Figure | None:
    """Jiang Fig. 2: training (lines) and test error (symbols) over epochs."""
    figure, (panel,) = _panels(1, height=4.2)
    rows = _by_layer(evidence.select("accuracy", width=_WIDTH, epoch=None, perturbation=["training", "held_out"]))
    groups = list(rows.groupby("number"))
    for (number, own), colour in zip(groups, _colours(len(groups)), strict=True):
        for condition, style in (("training", "-"), ("held_out", "o")):
            mean = 1 - own[own["perturbation"] == condition].groupby("epoch")["value"].mean()
            label = f"layer {number}" if style == "-" else None
            panel.plot(mean.index, mean, style, color=colour, ms=2.5, lw=1, label=label)
    panel.set(xlabel="epoch", ylabel="error rate", yscale="log", title="lines: training, symbols: test")
    panel.legend(fontsize=7, frameon=False)
    return figure


def _spectra_of_layers(evidence: Evidence) -> Figure | None:
    """Jiang Fig. 3: spectra of all layers of one network."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["width"] == _WIDTH)]
    if spectra.empty:
        return None
    spectra = _by_layer(spectra[spectra["seed"] == spectra["seed"].min()])
    figure, (panel,) = _panels(1, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), _colours(len(spectra)), strict=True):
        values = row["eigenvalues"]
        values = values[values > values[0] * 1e-9]
        panel.loglog(np.arange(1, len(values) + 1), values, color=colour, lw=1.2, label=f"layer {row['number']}")
    panel.axvline(10, color="grey", ls=":", lw=0.8)
    panel.set(xlabel="rank", ylabel="eigenvalue (squared activation)", title="dotted: last rank of the fit")
    panel.legend(fontsize=7, frameon=False)
    return figure


def _along_layers(evidence: Evidence) -> Figure | None:
    """Jiang Fig. 4: accuracy and exponent along the layers, for each width."""
    figure, panels = _panels(2)
    for panel, (quantity, condition, title) in zip(
        panels, (("accuracy", "held_out", "test accuracy"), ("alpha", "unperturbed", "exponent α")), strict=True
    ):
        rows = _by_layer(evidence.select(quantity, perturbation=condition))
        groups = list(rows.groupby("width"))
        for (width, own), colour in zip(groups, _colours(len(groups)), strict=True):
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
    panels[0].legend(fontsize=7, frameon=False)
    panels[1].axhline(1, color="grey", ls=":", lw=0.8)
    panels[0].set_title("mean and standard deviation over networks", loc="left", fontsize=9)
    return figure


def _alpha_against_accuracy(evidence: Evidence) -> Figure | None:
    """Jiang Fig. 5: exponent against accuracy, with standard errors."""
    accuracy = _by_layer(evidence.select("accuracy", perturbation="held_out", width=_WIDTH)).groupby("number")["value"]
    alpha = _by_layer(evidence.select("alpha", perturbation="unperturbed", width=_WIDTH)).groupby("number")["value"]
    figure, (panel,) = _panels(1, height=4.0)
    panel.errorbar(accuracy.mean(), alpha.mean(), xerr=accuracy.sem(), yerr=alpha.sem(), fmt="o-", ms=4, lw=1, capsize=2)
    for number in alpha.mean().index:
        panel.annotate(
            str(number), (accuracy.mean()[number], alpha.mean()[number]), xytext=(4, 4), textcoords="offset points", fontsize=8
        )
    panel.axhline(1, color="grey", ls=":", lw=0.8)
    panel.set(xlabel="test accuracy", ylabel="exponent α", title=f"{accuracy.count().max()} networks; numbers are layers")
    return figure


def _attacked(kind: str) -> Draw:
    """Jiang Figs 6 and 7: accuracy and exponent against strength, and against each other."""

    def make(evidence: Evidence) -> Figure | None:
        curves = {}
        for quantity in ("accuracy", "alpha"):
            rows = _by_layer(evidence.select(quantity, perturbation=kind, width=_WIDTH))
            curves[quantity] = rows.pivot_table(index="strength", columns="number", values="value", aggfunc=["mean", "std"])
        if any(curve.empty for curve in curves.values()):
            return None
        figure, panels = _panels(3)
        layers = list(curves["alpha"]["mean"].columns)
        for number, colour in zip(layers, _colours(len(layers)), strict=True):
            for panel, quantity in zip(panels[:2], ("accuracy", "alpha"), strict=True):
                mean, spread = (curves[quantity][part][number].dropna() for part in ("mean", "std"))
                panel.plot(mean.index, mean, color=colour, lw=1.1, label=f"layer {number}")
                panel.fill_between(
                    spread.index, mean[spread.index] - spread, mean[spread.index] + spread, color=colour, alpha=0.15, lw=0
                )
            both = pd.concat([curves[quantity]["mean"][number] for quantity in ("alpha", "accuracy")], axis=1).dropna()
            panels[2].plot(both.iloc[:, 0], both.iloc[:, 1], "o-", color=colour, ms=2.5, lw=0.8)
        panels[0].set(xlabel="ε", ylabel="test accuracy")
        panels[1].set(xlabel="ε", ylabel="exponent α")
        panels[2].set(xlabel="exponent α", ylabel="test accuracy")
        panels[0].legend(fontsize=6, frameon=False)
        panels[0].set_title("mean and standard deviation over networks", loc="left", fontsize=9)
        return figure

    return make


def _dimensions(evidence: Evidence) -> Figure | None:
    """Jiang Fig. 8 b, c: dimension against exponent, with Eq. (5)."""
    figure, panels = _panels(2, height=4.0)
    for panel, (kind, size) in zip(panels, (("layer_gaussian", 35), ("layer_fgsm", 30)), strict=True):
        grid = np.linspace(0.1, 2.2, 60)
        panel.plot(
            grid, [power_law_dimension(value, size) for value in grid], "--", color="green", lw=1, label=f"Eq. (5), N = {size}"
        )
        for strength, colour in zip((0.0, 0.5, 3.0), _colours(3), strict=True):
            condition = kind if strength else "unperturbed"
            pair = [
                _by_layer(evidence.select(quantity, perturbation=condition, strength=strength, width=_WIDTH)).groupby("number")[
                    "value"
                ]
                for quantity in ("alpha", "dimension")
            ]
            alpha, dimension = pair
            panel.errorbar(
                alpha.mean(),
                dimension.mean(),
                xerr=alpha.std(),
                yerr=dimension.std(),
                fmt="o",
                ms=3.5,
                lw=0.8,
                color=colour,
                label=f"ε = {strength:g}",
            )
        panel.set(xlabel="exponent α", ylabel="dimension D", title=kind.removeprefix("layer_"))
        panel.legend(fontsize=7, frameon=False)
    return figure


def _stimuli(evidence: Evidence) -> Figure | None:
    """Spread of the exponent over random subsets of the test images."""
    rows = _by_layer(evidence.select("alpha_sd", perturbation="stimuli"))
    if rows.empty:
        return None
    figure, (panel,) = _panels(1)
    groups = list(rows.groupby("number"))
    for (number, own), colour in zip(groups, _colours(len(groups)), strict=True):
        mean = own.groupby("strength")["value"].mean()
        panel.plot(mean.index, mean, "o-", color=colour, ms=3, lw=1, label=f"layer {number}")
    panel.set(xlabel="number of images k", ylabel="standard deviation of α", yscale="log")
    panel.legend(fontsize=7, frameon=False)
    return figure


_BETA_COLOURS = ("black", "tab:blue", "tab:red")


def _against_alpha(panel: Axes, rows: pd.DataFrame) -> None:
    """Accuracies against exponents (column alpha): dots for networks, lines for means over seeds, a colour for each strength."""
    for (beta, own), colour in zip(rows.groupby("beta"), _BETA_COLOURS, strict=False):
        panel.plot(own["alpha"], own["value"], "o", ms=3, color=colour, alpha=0.35, lw=0)
        mean = own.groupby("target")[["alpha", "value"]].mean().sort_values("alpha")
        panel.plot(mean["alpha"], mean["value"], "o-", ms=4, lw=1, color=colour, label=f"β = {beta:g}")


def _gerum(model: str, epsilon: float, *, data: tuple[str, ...] = ("mnist", "digits"), form: str = "exponent") -> Draw:
    """Gerum Figs 2a-c and 3: accuracy, clean and attacked, against the exponent of the last epoch's batches."""

    def make(evidence: Evidence) -> Figure | None:
        where = {"model": model, "data": list(data), "form": form}
        alpha = evidence.select("alpha", perturbation="training", **where).set_index("cell")["value"]
        if alpha.empty:
            return None
        strengths = evidence.select("accuracy", perturbation=["fgsm", "pgd"], **where)["strength"]
        conditions: list[dict[str, Any]] = [{"perturbation": "held_out"}]
        titles = ["accuracy"]
        if not strengths.empty:
            nearest = min(strengths, key=lambda strength: abs(strength - epsilon))  # a study may have been given other strengths
            conditions += [{"perturbation": kind, "strength": nearest} for kind in ("fgsm", "pgd")]
            titles += [f"accuracy under {kind}, ε = {nearest:g}" for kind in ("FGSM", "PGD")]
        figure, panels = _panels(len(conditions))
        for panel, condition, title in zip(panels, conditions, titles, strict=True):
            rows = evidence.select("accuracy", **where, **condition)
            _against_alpha(panel, rows.assign(alpha=rows["cell"].map(alpha)))
            panel.set(xlabel="exponent α of the last epoch's batches", ylabel=title)
        panels[0].legend(fontsize=7, frameon=False)
        panels[0].set_title("dots: networks, lines: means over seeds", loc="left", fontsize=9)
        return figure

    return make


_NETWORKS = {
    "deep MLP": {"model": "gerum_deep_mlp"},
    "CNN, MNIST": {"model": "gerum_cnn", "data": "mnist"},
    "CNN, CIFAR-10": {"model": "gerum_cnn", "data": "cifar10"},
    "CNN, digits": {"model": "gerum_cnn", "data": "digits"},
}


def _gerum_every_strength(evidence: Evidence) -> Figure | None:
    """Gerum Fig. S1: accuracy against the exponent; a row for each network and attack, a column for each of five strengths."""
    alpha = evidence.select("alpha", perturbation="training").set_index("cell")["value"]
    drawn = []
    for name, where in _NETWORKS.items():
        for kind in ("fgsm", "pgd"):
            rows = evidence.select("accuracy", perturbation=kind, form="exponent", **where)
            if not rows.empty:
                drawn.append((f"{name}: {kind.upper()}", rows.assign(alpha=rows["cell"].map(alpha))))
    if not drawn:
        return None
    strengths = [sorted(rows["strength"].unique()) for _, rows in drawn]
    columns = min(5, max(len(each) for each in strengths))
    figure = new_figure(2.4 * columns, 2.0 * len(drawn))
    grid = figure.subplots(len(drawn), columns, squeeze=False)
    for panels, (title, rows), own in zip(grid, drawn, strengths, strict=True):
        chosen = [own[place] for place in np.unique(np.linspace(0, len(own) - 1, columns).round().astype(int))]
        for panel, strength in zip(panels, chosen, strict=False):
            _against_alpha(panel, rows[rows["strength"] == strength])
            panel.set_title(f"ε = {strength:g}", fontsize=8)
            panel.tick_params(labelsize=7)
        for panel in panels[len(chosen) :]:
            panel.remove()
        panels[0].set_ylabel(title, fontsize=7)
    for panel in grid[-1]:
        panel.set_xlabel("exponent α", fontsize=7)
    grid[0][0].legend(fontsize=6, frameon=False)
    return figure


def _gerum_learning(evidence: Evidence) -> Figure | None:
    """Gerum Fig. 2d, e and f: exponents over training, and accuracy against strength."""
    rows = evidence.select("alpha", perturbation="training", model="gerum_shallow_mlp", form="exponent", epoch=None)
    if rows.empty:
        return None
    betas = sorted(float(beta) for beta in rows["beta"].unique() if beta > 0)[:2]
    figure, panels = _panels(len(betas) + 1)
    for panel, beta in zip(panels, betas, strict=False):
        groups = list(rows[rows["beta"] == beta].groupby("target"))
        for (target, own), colour in zip(groups, _colours(len(groups)), strict=True):
            mean = own.groupby("epoch")["value"].mean()
            panel.plot(mean.index, mean, color=colour, lw=1.2, label=f"target {target:g}")
        base = rows[rows["beta"] == 0].groupby("epoch")["value"].mean()
        panel.plot(base.index, base, "--", color="black", lw=1, label="baseline")
        panel.set(xlabel="epoch", ylabel="exponent α of training batches", title=f"β = {beta:g}")
    attacked = evidence.select("accuracy", perturbation="pgd", model="gerum_shallow_mlp", form="exponent")
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
    panels[0].legend(fontsize=6, frameon=False)
    panels[-1].legend(fontsize=6, frameon=False)
    return figure


def _gerum_spectra(evidence: Evidence, ranks: tuple[int, int] = (6, 50)) -> Figure | None:
    """Gerum Fig. 1e: spectra of networks regularised to several targets."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["model"] == "gerum_shallow_mlp")]
    spectra = spectra[(spectra["form"] == "exponent") & (spectra["seed"] == spectra["seed"].min())]
    if spectra.empty:
        return None
    chosen = spectra[(spectra["beta"] == spectra["beta"].max()) | (spectra["beta"] == 0)].sort_values(["beta", "target"])
    figure, (panel,) = _panels(1, height=4.2)
    for (_, row), colour in zip(chosen.iterrows(), _colours(len(chosen)), strict=True):
        values = row["eigenvalues"] / row["eigenvalues"].sum()
        values = values[values > 1e-12]
        label = f"target {row['target']:g}" if row["beta"] else "baseline"
        panel.loglog(np.arange(1, len(values) + 1), values, color=colour if row["beta"] else "black", lw=1, label=label)
    panel.axvspan(*ranks, color="grey", alpha=0.12, lw=0)
    panel.set(xlabel="rank", ylabel="share of the variance", title="grey: ranks of the fit")
    panel.legend(fontsize=7, frameon=False)
    return figure


def _spectrum(panel: Axes, row: Any, label: str, **style: Any) -> None:
    """One spectrum down to 1e-8 of its first eigenvalue."""
    values = row["eigenvalues"]
    values = values[values > values[0] * 1e-8]
    panel.loglog(np.arange(1, len(values) + 1), values, lw=1, label=label, **style)


def _finish(panel: Axes, title: str, ranks: tuple[int, int] = (10, 316)) -> None:
    panel.axvspan(*ranks, color="grey", alpha=0.1, lw=0)
    panel.set(xlabel="rank", ylabel="eigenvalue (squared activation)", title=title)
    panel.legend(fontsize=7, frameon=False)


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
        figure, panels = _panels(len(kinds), height=4.2)
        for panel, kind in zip(panels, kinds, strict=True):
            own = spectra[spectra["perturbation"] == kind].sort_values("strength")
            for (_, row), colour in zip(own.iterrows(), _colours(len(own)), strict=True):
                _spectrum(panel, row, f"{row['strength']:g}", color=colour)
            _spectrum(panel, base, "unperturbed", color="black", ls="--")
            _finish(panel, kind)
        return figure

    return make


def _networks(evidence: Evidence) -> Figure | None:
    """Schaeffer Fig. 2: spectra of the ImageNet networks."""
    spectra = evidence.spectra
    spectra = spectra[[str(model).startswith("torchvision:") for model in spectra["model"]]]
    if spectra.empty:
        return None
    figure, (panel,) = _panels(1, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), _colours(len(spectra)), strict=True):
        _spectrum(panel, row, row["model"].removeprefix("torchvision:"), color=colour)
    _finish(panel, "penultimate layer")
    return figure


def _made_sets(evidence: Evidence) -> Figure | None:
    """Schaeffer Fig. 5: spectra on images that networks made."""
    spectra = _plain_spectra(evidence)
    own = spectra[spectra["perturbation"].isin(MADE) & (spectra["adversarial"] == 0)]
    if own.empty:
        return None
    figure, (panel,) = _panels(1, height=4.2)
    for (_, row), colour in zip(own.iterrows(), _colours(len(own)), strict=True):
        _spectrum(panel, row, row["perturbation"].replace("_", " "), color=colour)
    base = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["adversarial"] == 0)].iloc[0]
    _spectrum(panel, base, "test images", color="black", ls="--")
    _finish(panel, "network without penalties")
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
    figure, panels = _panels(2, height=4.2)
    for (_, row), colour in zip(groups[-1].iterrows(), _colours(len(groups[-1])), strict=True):
        _spectrum(panels[0], row, row["perturbation"].replace("_", " "), color=colour)
    _finish(panels[0], f"trained: {groups[-1]['trained'].iloc[0]}")
    for own, colour in zip(groups, _colours(len(groups)), strict=True):
        for _, row in own[own["perturbation"] == "robust"].iterrows():
            _spectrum(panels[1], row, row["trained"], color=colour)
    _finish(panels[1], "on robust features")
    return figure


def _penalised(evidence: Evidence) -> Figure | None:
    """Schaeffer Fig. 7: spectra under covariance penalties, and accuracy under attack under Jacobian penalties."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["jacobian"] == 0) & (spectra["adversarial"] == 0)]
    spectra = spectra[spectra["seed"] == spectra["seed"].min()].drop_duplicates("covariance").sort_values("covariance")
    attacked = evidence.select("accuracy", perturbation="pgd", covariance=0.0)
    if spectra.empty or attacked.empty:
        return None
    figure, panels = _panels(2, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), _colours(len(spectra)), strict=True):
        _spectrum(panels[0], row, f"c1 = {row['covariance']:g}", color=colour)
    _finish(panels[0], "covariance penalties")
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
    alpha = evidence.select("alpha", perturbation="unperturbed").set_index("cell")["value"]
    if attacked.empty or alpha.empty:
        return None
    figure, (panel,) = _panels(1, height=4.0)
    groups = list(attacked.groupby("strength"))
    for (strength, own), colour in zip(groups, _colours(len(groups)), strict=True):
        panel.plot(
            own["cell"].map(alpha), own["value"], "o", ms=4, color=colour, alpha=0.7, label=f"ε = {float(str(strength)):.3f}"
        )
    panel.set(xlabel="exponent α", ylabel="accuracy under PGD")
    panel.legend(fontsize=7, frameon=False)
    return figure


_MOST_SPECTRA = 12


def _own_spectra(evidence: Evidence) -> Figure | None:
    """Spectra of the last layer read from the first networks of any study, of one seed."""
    spectra = evidence.spectra
    spectra = spectra[(spectra["perturbation"] == "unperturbed") & (spectra["seed"] == spectra["seed"].min())]
    if spectra.empty:
        return None
    layer = spectra["layer"].iloc[-1]
    spectra = spectra[spectra["layer"] == layer].sort_values(["beta", "target", "adversarial"])[:_MOST_SPECTRA]
    varied = [name for name in (*_TOLD, *(name for name in spectra if "." in name)) if spectra[name].nunique() > 1]
    figure, (panel,) = _panels(1, height=4.2)
    for (_, row), colour in zip(spectra.iterrows(), _colours(len(spectra)), strict=True):
        _spectrum(panel, row, ", ".join(f"{name} {row[name]}" for name in varied) or row["model"], color=colour)
    panel.set(xlabel="rank", ylabel="eigenvalue (squared activation)", title=f"{layer}, one seed")
    panel.legend(fontsize=6, frameon=False)
    return figure


_TOLD = ("model", "data", "form", "epochs", "trained", "beta", "target", "covariance", "jacobian")

_FIGURES: dict[str, Draw] = {
    "schaeffer2020.fig2": _networks,
    "schaeffer2020.fig3": _under("gaussian", "pure_noise"),
    "schaeffer2020.fig4": _under("pca", "zca"),
    "schaeffer2020.fig5": _made_sets,
    "schaeffer2020.fig6": _adversarially_trained,
    "schaeffer2020.released": _adversarially_trained,
    "schaeffer2020.fig7": _penalised,
    "schaeffer2020.fig8": _robustness_against_alpha,
    "demo.spectra": partial(_gerum_spectra, ranks=(2, 30)),
    "demo.outcome": _gerum("gerum_shallow_mlp", 0.1),
    "gerum2022.fig1e": _gerum_spectra,
    "gerum2022.fig2": _gerum("gerum_shallow_mlp", 0.05),
    "gerum2022.fig2d": _gerum_learning,
    "gerum2022.fig3a": _gerum("gerum_deep_mlp", 0.05),
    "gerum2022.fig3d": _gerum("gerum_cnn", 0.1),
    "gerum2022.fig3g": _gerum("gerum_cnn", 0.01, data=("cifar10", "digits")),
    "gerum2022.figS1": _gerum_every_strength,
    "gerum2022.line": _gerum("gerum_shallow_mlp", 0.05, form="line"),
    "jiang2020.fig2": _errors,
    "jiang2020.fig3": _spectra_of_layers,
    "jiang2020.fig4": _along_layers,
    "jiang2020.fig5": _alpha_against_accuracy,
    "jiang2020.fig6": _attacked("layer_gaussian"),
    "jiang2020.fig7": _attacked("layer_fgsm"),
    "jiang2020.fig8": _dimensions,
    "jiang2020.stimuli": _stimuli,
}
