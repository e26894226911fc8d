"""Figures of training: learning curves, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from eigencode._text import for_figure
from eigencode.spectra.plotting import new_figure
from eigencode.training.settings import WEIGHTS

_LEGEND_ENTRIES = 12
"""With more settings the legend would hide the curves."""

_SEED = r"_?seed\d+$"
"""End of a network's name that says which seed it has."""


def plot_learning(history: pd.DataFrame, *, names: Sequence[str]) -> Figure:
    """Loss, accuracy and exponent over epochs: mean over seeds with a band of one standard deviation (Gerum et al., Fig. 2d, e).

    Args:
        history: ``Training.history``.
        names: The networks' names, in the order of ``member``; networks that differ in their seed alone share a curve.

    Returns:
        Figure with three panels; held-out values are solid, training ones dashed.
    """
    settings = history["member"].map(dict(enumerate(names))).str.replace(_SEED, "", regex=True)
    labels = [" ".join(part for part in pair if part) for pair in zip(settings, history["layer"], strict=True)]
    if settings.nunique() > 1 and history["layer"].nunique() == 1:
        labels = list(settings)
    groups = list(history.assign(label=labels).groupby("label", sort=False))
    figure = new_figure(12.0, 4.0)
    panels = figure.subplots(1, 3)
    colours = colormaps["viridis"](np.linspace(0, 0.92, len(groups)))
    drawn = (
        (panels[0], "training loss", {"loss": "-"}),
        (panels[1], "accuracy", {"held_out_accuracy": "-", "accuracy": "--"}),
        (panels[2], "exponent α", {"held_out_alpha": "-", "alpha": "--"}),
    )
    for panel, title, quantities in drawn:
        for (label, rows), colour in zip(groups, colours, strict=True):
            for quantity, style in quantities.items():
                over_seeds = rows[rows[quantity].notna()].groupby("epoch")[quantity]
                mean, spread = over_seeds.mean(), over_seeds.std().fillna(0)
                panel.plot(mean.index, mean, style, color=colour, lw=1.2 if style == "-" else 0.8, label=for_figure(label))
                if style == "-":
                    panel.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
        panel.set_xlabel("epoch")
        panel.set_ylabel(title)
    panels[0].set_yscale("log")
    panels[1].set_title("solid: held out, dashed: training", loc="left", fontsize=9)
    if len(groups) <= _LEGEND_ENTRIES:
        panels[0].legend(fontsize=7, frameon=False)
    return figure


def plot_outcome(outcome: pd.DataFrame) -> Figure:
    """What came of it: along the layers where several were measured, else accuracy against the exponent.

    Args:
        outcome: One row for each network and layer, with columns accuracy, "alpha (training)", "alpha (held out)", strength, and
            one column for each attack and budget.

    Returns:
        Figure; against the exponent, a panel for each accuracy, clean and under attack, and a colour for each strength
        (Gerum et al. 2022, Fig. 2a-c); along the layers, mean and standard deviation over networks (Jiang et al. 2020, Fig. 5).
    """
    return _along_layers(outcome) if outcome["layer"].nunique() > 1 else _against_alpha(outcome)


def _along_layers(outcome: pd.DataFrame) -> Figure:
    figure = new_figure(9.0, 3.8)
    panels = figure.subplots(1, 2)
    settings = outcome["network"].str.replace(_SEED, "", regex=True)
    layers = list(dict.fromkeys(outcome["layer"]))
    for setting, rows in outcome.groupby(settings, sort=False):
        for panel, name in zip(panels, ("accuracy", "alpha (held out)"), strict=True):
            over_seeds = rows.groupby("layer")[name]
            mean, spread = over_seeds.mean().reindex(layers), over_seeds.std().reindex(layers)
            panel.errorbar(range(len(layers)), mean, yerr=spread, fmt="o-", ms=4, lw=1.2, capsize=3, label=for_figure(setting))
    for panel, title in zip(panels, ("accuracy on held-out images", "exponent α of held-out images"), strict=True):
        panel.set_xticks(
            range(len(layers)), [for_figure(layer) for layer in layers], rotation=45 if len(layers) > 5 else 0, fontsize=8
        )
        panel.set_ylabel(title)
    panels[1].axhline(1, color="grey", lw=0.8, ls=":")
    panels[0].set_title("mean and standard deviation over networks", loc="left", fontsize=9)
    if settings.nunique() > 1:
        panels[0].legend(fontsize=8, frameon=False)
    return figure


def _against_alpha(outcome: pd.DataFrame) -> Figure:
    known = ("network", "layer", "target", *WEIGHTS, "training accuracy")
    accuracies = [str(name) for name in outcome if name not in known and not str(name).startswith("alpha")]
    axis = "alpha (training)" if outcome["alpha (training)"].notna().any() else "alpha (held out)"
    figure = new_figure(4.2 * len(accuracies), 3.8)
    panels = np.atleast_1d(figure.subplots(1, len(accuracies)))
    varied = next((name for name in WEIGHTS if outcome[name].nunique() > 1), "beta")
    groups = list(outcome.groupby(varied, sort=False))
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
    symbol = WEIGHTS[varied]["symbol"]
    for panel, name in zip(panels, accuracies, strict=True):
        for (value, rows), colour in zip(groups, colours, strict=True):
            panel.plot(rows[axis], rows[name], "o", ms=5, color=colour, label=f"{symbol} = {value:g}", alpha=0.8)
        panel.set_xlabel(axis.replace("alpha", "α"))
        panel.set_ylabel(name if name == "accuracy" else f"accuracy under {name}")
    panels[0].legend(fontsize=8, frameon=False)
    return figure
