"""Figures of what a perturbation does: accuracy, exponent and dimension against strength, spectra overlaid, example images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from eigencode._text import for_figure
from eigencode.perturbations.specification import kind_of
from eigencode.reports.figures import plain_log_axis
from eigencode.spectra import Eigenspectrum
from eigencode.spectra.plotting import layer_colours, new_figure, plot_spectrum
from eigencode.spectra.window import Ranks, Window

_PANELS = 12
"""Spectra are drawn for at most this many layers, evenly chosen from first to last."""

_ROWS = 8
"""Strengths shown in the grid of examples."""

_OUTSIDE = 0.25
"""Images with a larger share of values outside [0, 1] are stretched to it for display."""


def _perturbations(summary: pd.DataFrame, baseline: str) -> list[str]:
    return [name for name in dict.fromkeys(summary["perturbation"]) if name != baseline]


def _even(items: Sequence, most: int) -> list:  # type: ignore[type-arg]
    chosen = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[i] for i in chosen]


def plot_response(summary: pd.DataFrame, *, baseline: str) -> Figure:
    """Accuracy, exponent and dimension of every layer against strength, a column for each perturbation.

    Args:
        summary: Columns perturbation, strength, accuracy, layer, alpha, alpha_low, alpha_high, dimension.
        baseline: Name of the unperturbed condition; it is drawn at strength 0, or as a dotted line where strength 0 means
            something else, as for projections.

    Returns:
        Figure; lines are plain fits, bands the 95 % intervals of the population exponent.
    """
    names = _perturbations(summary, baseline)
    figure = new_figure(max(6.4, 4.6 * len(names)), 8.4)
    panels = figure.subplots(3, len(names), squeeze=False, sharex="col", sharey="row")
    layers = list(dict.fromkeys(summary["layer"]))
    colours = layer_colours(layers)
    clean = summary[summary["perturbation"] == baseline]
    for column, name in enumerate(names):
        _draw_response(list(panels[:, column]), name, summary[summary["perturbation"] == name], clean, colours)
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("exponent α")
    panels[2, 0].set_ylabel("dimension D")
    _legend(panels[1, -1], len(layers))
    return figure


def _draw_response(
    panels: Sequence[Axes], name: str, part: pd.DataFrame, clean: pd.DataFrame, colours: Mapping[str, np.ndarray]
) -> None:
    """One perturbation's column: accuracy, exponent and dimension against strength."""
    kind = kind_of(name)
    counts, level = kind is not None and kind.counts, kind is not None and not kind.from_image
    top, middle, bottom = panels
    rows = part if level else pd.concat([clean, part])
    common = rows.groupby("strength")["accuracy"].nunique().max() <= 1
    for number, (layer, colour) in enumerate(colours.items()):
        line = rows[rows["layer"] == layer].sort_values("strength")
        if line.empty:
            continue
        style: dict[str, Any] = {"color": colour, "lw": 1.1, "ms": 3}
        if not common or number == 0:
            top.plot(line["strength"], line["accuracy"], "o-", **style | ({"color": "black"} if common else {}))
        middle.plot(line["strength"], line["alpha"], "o-", label=for_figure(layer), **style)
        middle.fill_between(line["strength"], line["alpha_low"], line["alpha_high"], color=colour, alpha=0.15, lw=0)
        bottom.plot(line["strength"], line["dimension"], "o-", **style)
        for panel, quantity in ((top, "accuracy"), (middle, "alpha"), (bottom, "dimension")) if level else ():
            values = clean[clean["layer"] == layer][quantity]
            if len(values) and (panel is not top or not common or number == 0):
                panel.axhline(values.iloc[0], color="black" if panel is top and common else colour, lw=0.8, ls=":")
    top.set_title(for_figure(name), loc="left", fontsize=11)
    top.set_ylim(-0.02, 1.02)
    if counts:
        bottom.set_xscale("log", base=2)
        bottom.xaxis.set_major_formatter("{x:g}")
    bottom.set_xlabel("components" if counts else "strength")
    plain_log_axis(bottom)


def plot_accuracy_against_alpha(summary: pd.DataFrame, *, baseline: str) -> Figure:
    """Accuracy against the exponent of each layer, points joined in the order of strength (Jiang et al. 2020, Figs 6c and 7c)."""
    names = _perturbations(summary, baseline)
    figure = new_figure(max(6.4, 4.6 * len(names)), 4.4)
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    layers = list(dict.fromkeys(summary["layer"]))
    colours = layer_colours(layers)
    for panel, name in zip(panels, names, strict=True):
        rows = summary[summary["perturbation"].isin([baseline, name])]
        for layer in layers:
            line = rows[rows["layer"] == layer].sort_values("strength")
            start = line[line["perturbation"] == baseline]
            if (kind := kind_of(name)) and not kind.from_image:
                line = line[line["perturbation"] == name]
            panel.plot(line["alpha"], line["accuracy"], "o-", color=colours[layer], ms=3, lw=0.8, label=for_figure(layer))
            panel.plot(start["alpha"], start["accuracy"], "o", color=colours[layer], ms=7, mfc="none")
        panel.set_title(for_figure(f"{name} (rings: {baseline})"), loc="left", fontsize=10)
        panel.set_xlabel("exponent α")
    panels[0].set_ylabel("accuracy")
    _legend(panels[-1], len(layers))
    return figure


def _legend(panel, count: int) -> None:  # type: ignore[no-untyped-def]
    panel.legend(fontsize=7, frameon=False, ncols=1 + count // 12, loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot_overlaid_spectra(conditions: Mapping[str, Mapping[str, Eigenspectrum]], *, ranks: Ranks, title: str) -> Figure:
    """Spectra of one layer in one panel, a curve for each condition (Schaeffer et al. 2020, Figs 3-6).

    Args:
        conditions: Condition -> layer -> spectrum; the first is drawn in black.
        ranks: Fit window, shaded.
        title: Above the figure.

    Returns:
        Figure with at most 12 panels.
    """
    layers = _even(list(dict.fromkeys(layer for spectra in conditions.values() for layer in spectra)), _PANELS)
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure = new_figure(max(6.4, 3.6 * columns), 0.6 + 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    shades = colormaps["viridis"](np.linspace(0.12, 0.95, max(1, len(conditions) - 1)))
    colours = dict(zip(conditions, ["black", *shades], strict=False))
    for panel, layer in zip(panels, layers, strict=False):
        for label, spectra in conditions.items():
            if layer in spectra:
                plot_spectrum(spectra[layer], ax=panel, label=label, colour=colours[label])
        panel.axvspan(*Window.of(ranks).ranks, color="grey", alpha=0.12, lw=0)
        panel.set_title(for_figure(layer), loc="left", fontsize=9)
        panel.tick_params(labelsize=7)
        panel.xaxis.label.set_size(8)
        panel.yaxis.label.set_size(8)
    for panel in panels[len(layers) :]:
        panel.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    if panels[0].get_legend():
        panels[0].get_legend().remove()
    figure.legend(handles, labels, fontsize=7, frameon=False, loc="outside right upper", ncols=1 + len(labels) // 24)
    figure.suptitle(for_figure(title), x=0.01, ha="left", fontsize=11)
    return figure


def plot_examples(examples: Mapping[str, Tensor], *, title: str) -> Figure:
    """Grid of images, a row for each condition.

    Args:
        examples: Condition -> images, shape (n, channels, height, width).
        title: Above the figure.

    Returns:
        Figure; images mostly outside [0, 1] are stretched to their own range, and say so.
    """
    shown = {label: examples[label] for label in _even(list(examples), _ROWS)}
    columns = max(len(images) for images in shown.values())
    figure = new_figure(1.6 + 0.9 * columns, 0.5 + 0.95 * len(shown))
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for row, (label, images) in zip(panels, shown.items(), strict=True):
        stretched = bool(((images < 0) | (images > 1)).double().mean() > _OUTSIDE)
        for panel in row:
            panel.set_axis_off()
        for panel, image in zip(row, images, strict=False):
            if stretched:
                image = (image - image.min()) / (image.max() - image.min()).clamp_min(torch.finfo(image.dtype).tiny)
            pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()
            panel.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", vmin=0, vmax=1)
        row[0].text(
            -0.15,
            0.5,
            for_figure(label) + ("\n(stretched)" if stretched else ""),
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=8,
        )
    figure.suptitle(for_figure(title), x=0.01, ha="left", fontsize=10)
    return figure
