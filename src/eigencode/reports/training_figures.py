"""Figures of training: learning curves, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from eigencode.reports.figures import new_figure

_LEGEND_NETWORKS = 12
"""With more networks the legend would hide the curves."""


def plot_learning(history: pd.DataFrame, *, names: Sequence[str]) -> Figure:
    """Loss, accuracy and exponent over epochs, a line for each network (Gerum et al. 2022, Fig. 2d, e).

    Args:
        history: ``Training.history``; where several layers were measured they are drawn in several shades.
        names: The networks' names, in the order of ``member``.

    Returns:
        Figure with three panels; held-out values are solid, training ones dashed.
    """
    figure = new_figure(12.0, 4.0)
    panels = figure.subplots(1, 3)
    lines = list(history.groupby(["member", "layer"], sort=False))
    colours = colormaps["viridis"](np.linspace(0, 0.92, len(lines)))
    several = history["layer"].nunique() > 1
    for ((_, layer), rows), colour in zip(lines, colours, strict=True):
        label = names[int(rows["member"].iloc[0])] + (f" {layer}" if several else "")
        panels[0].plot(rows["epoch"], rows["loss"], color=colour, lw=1.2, label=label)
        panels[1].plot(rows["epoch"], rows["held_out_accuracy"], color=colour, lw=1.2)
        panels[1].plot(rows["epoch"], rows["accuracy"], "--", color=colour, lw=0.8)
        known = rows[rows["held_out_alpha"].notna()]
        panels[2].plot(known["epoch"], known["held_out_alpha"], color=colour, lw=1.2)
        panels[2].plot(rows["epoch"], rows["alpha"], "--", color=colour, lw=0.8)
    for panel, name in zip(panels, ("training loss", "accuracy", "exponent α"), strict=True):
        panel.set_xlabel("epoch")
        panel.set_ylabel(name)
    panels[0].set_yscale("log")
    panels[1].set_title("solid: held out, dashed: training", loc="left", fontsize=9)
    if len(lines) <= _LEGEND_NETWORKS:
        panels[0].legend(fontsize=7, frameon=False)
    return figure


def plot_outcome(outcome: pd.DataFrame) -> Figure:
    """Accuracy, clean and under attack, against the measured exponent of the training batches (Gerum et al. 2022, Fig. 2a-c).

    Args:
        outcome: One row for each network and layer, with columns accuracy, "alpha (training)" or "alpha (held out)", strength,
            and one column for each attack and budget.

    Returns:
        Figure with a panel for each accuracy; a colour for each strength.
    """
    known = ("network", "layer", "target", "strength", "covariance", "jacobian", "training accuracy")
    accuracies = [name for name in outcome if name not in known and not str(name).startswith("alpha")]
    axis = "alpha (training)" if outcome["alpha (training)"].notna().any() else "alpha (held out)"
    figure = new_figure(4.2 * len(accuracies), 3.8)
    panels = np.atleast_1d(figure.subplots(1, len(accuracies)))
    varied = "layer" if outcome["layer"].nunique() > 1 else "strength"
    groups = list(outcome.groupby(varied, sort=False))
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(groups)))
    for panel, name in zip(panels, accuracies, strict=True):
        for (value, rows), colour in zip(groups, colours, strict=True):
            label = f"{value}" if varied == "layer" else f"β = {value:g}"
            panel.plot(rows[axis], rows[name], "o", ms=5, color=colour, label=label, alpha=0.8)
        panel.set_xlabel(axis.replace("alpha", "α"))
        panel.set_ylabel(str(name) if name == "accuracy" else f"accuracy under {name}")
    panels[0].legend(fontsize=8, frameon=False)
    return figure
