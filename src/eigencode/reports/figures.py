"""Figures of spectra and summaries. Nothing is computed here but positions on paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from eigencode._text import for_figure
from eigencode.errors import SpectrumError
from eigencode.measurement.result import Measurement
from eigencode.spectra.plotting import DEPTH_COLOURS, layer_colours, new_figure, plot_spectrum
from eigencode.spectra.signal_laws import DOUBTFUL
from eigencode.spectra.window import Ranks, Window

if TYPE_CHECKING:
    from eigencode.spectra import CrossValidatedSpectrum, Eigenspectrum, SignalSpectrum

_LEGEND_LAYERS = 14
"""With more layers a colour bar of depth replaces the legend."""

_STYLES = ("-", "--", ":", "-.")


def plot_spectra(
    conditions: Mapping[str, Mapping[str, Eigenspectrum]] | Measurement,
    *,
    ranks: Ranks,
    recording: Eigenspectrum | CrossValidatedSpectrum | None = None,
    signal: SignalSpectrum | None = None,
) -> Figure:
    """Eigenspectra of all layers on one pair of log-log axes, the fit window shaded.

    Args:
        conditions: What ``measure`` gives; or several of these, by the name of a condition or network, each drawn in a line
            style of its own.
        ranks: Window of the fits.
        recording: A recording drawn beside the network, in black; all are then drawn as shares of their variance, which of a
            cross-validated spectrum is that of the signal.
        signal: Of the recording; the power law that has its moments is drawn broken, if there is one.

    Returns:
        Figure.
    """
    if isinstance(conditions, Measurement):
        conditions = {"": conditions}
    figure = new_figure(7.2, 5.0)
    ax = figure.add_subplot()
    layers = list(dict.fromkeys(layer for spectra in conditions.values() for layer in spectra))
    shares = recording is not None and bool(layers) and float(recording.eigenvalues.sum()) > 0
    colours = layer_colours(layers)
    for number, (condition, spectra) in enumerate(conditions.items()):
        for layer, spectrum in spectra.items():
            style = _STYLES[number % len(_STYLES)]
            plot_spectrum(spectrum, ax=ax, label=layer, colour=colours[layer], style=style)
            if shares:
                _as_share(ax, spectrum.total_variance)
            if number:
                ax.lines[-1].set_label("_")  # the legend has it already
        if len(conditions) > 1:
            ax.plot([], [], _STYLES[number % len(_STYLES)], color="grey", label=for_figure(condition))
    if recording is not None:
        plot_spectrum(recording, ax=ax, colour="black", style="-")
        if shares:
            _as_share(ax, float(recording.eigenvalues.sum()))
    if signal is not None and not math.isnan(signal.alpha.value):
        _draw_laws(ax, signal, variance=1.0 if shares else signal.moments.trace)
    window = Window.of(ranks)
    ax.axvspan(*window.ranks, color="grey", alpha=0.12, lw=0, label=f"fit window {window}")
    if len(layers) <= _LEGEND_LAYERS:
        ax.legend(fontsize=8, frameon=False, loc="lower left")
    else:
        mappable = figure.colorbar(
            _depth_scale(len(layers)), ax=ax, label=for_figure(f"layer, from {layers[0]} (first) to {layers[-1]} (last)")
        )
        mappable.ax.tick_params(labelsize=8)
    ax.set_title("Eigenspectra", loc="left", fontsize=11)
    return figure


def _as_share(ax: Axes, variance: float) -> None:
    """The line that was drawn last, as shares of a variance."""
    line = ax.lines[-1]
    line.set_ydata(np.asarray(line.get_ydata(), dtype=float) / variance)
    ax.relim()
    ax.set_ylabel("share of variance")


def _draw_laws(ax: Axes, signal: SignalSpectrum, *, variance: float) -> None:
    """The power law with the moments of a signal; if it does not have them all, the broken one too."""
    laws = {"--": ("one exponent", signal.eigenvalues * (variance / signal.moments.trace))}
    if signal.agreement < DOUBTFUL:
        try:
            broken = signal.broken_power_law()
            laws[":"] = ("two exponents", broken.eigenvalues(signal.n_features, variance))
        except SpectrumError:
            pass
    for style, (name, values) in laws.items():
        ax.loglog(
            np.arange(1, len(values) + 1),
            values.numpy(),
            style,
            color="black",
            lw=1,
            label=for_figure(f"{signal.name}: signal, {name}"),
        )


def _depth_scale(count: int):  # type: ignore[no-untyped-def]
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shades = colormaps[DEPTH_COLOURS]
    return ScalarMappable(Normalize(1, count), shades)


def plain_log_axis(ax: Axes) -> None:
    """Logarithmic vertical axis with plain numbers."""
    if not any((np.asarray(line.get_ydata(), dtype=float) > 0).any() for line in ax.lines):
        return  # nothing that a logarithm could show
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(LogFormatter(minor_thresholds=(2, 0.8)))
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.8)))


def plot_along_layers(summary: pd.DataFrame | Measurement, *, ranks: Ranks = "gerum") -> Figure:
    """Exponent and dimension along the layers.

    Args:
        summary: What ``measure`` gives, or columns condition, layer, alpha, alpha_population, alpha_low, alpha_high, dimension;
            dimension_low and dimension_high where they are known.
        ranks: Window of the fits to what ``measure`` gives; a table has its own.

    Returns:
        Figure with two panels: alpha of the plain fit (line) with the interval of the population exponent (bars), and D of
        these images with that of the population.
    """
    if isinstance(summary, Measurement):
        summary = summary.summary(ranks).assign(condition="")
    layers = list(dict.fromkeys(summary["layer"]))
    position = {layer: index for index, layer in enumerate(layers)}
    conditions = list(dict.fromkeys(summary["condition"]))
    figure = new_figure(max(7.2, min(16.0, 2.4 + 0.22 * len(layers))), 5.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    colours = colormaps["tab10"](np.arange(10))
    for number, condition in enumerate(conditions):
        rows = summary[summary["condition"] == condition]
        x = rows["layer"].map(position).to_numpy(dtype=float)
        shift = 0.12 * (number - (len(conditions) - 1) / 2)
        colour = colours[number % 10]
        style = "o" if condition == "recording" else "o-"  # its rows are no layers
        top.plot(x + shift, rows["alpha"], style, ms=2.5, lw=1.0, color=colour, label=for_figure(condition))
        top.vlines(x + shift, rows["alpha_low"], rows["alpha_high"], color=colour, lw=6.0, alpha=0.35)
        bottom.plot(x + shift, rows["dimension"], style, ms=2.5, lw=1.0, color=colour, label=for_figure(condition))
        if "dimension_low" in rows:
            bottom.vlines(x + shift, rows["dimension_low"], rows["dimension_high"], color=colour, lw=6.0, alpha=0.35)
    top.axhline(1, color="grey", lw=0.8, ls=":")
    top.set_ylabel("exponent α")
    top.set_title("points: of these images; bars: 95 % interval of the population", loc="left", fontsize=9)
    bottom.set_ylabel("dimension D")
    plain_log_axis(bottom)
    if len(conditions) > 1:
        top.legend(fontsize=8, frameon=False)
    every = max(1, len(layers) // 60)
    bottom.set_xticks(
        range(0, len(layers), every),
        [for_figure(layer) for layer in layers[::every]],
        rotation=90 if len(layers) > 6 else 0,
        fontsize=7 if len(layers) > 30 else 8,
    )
    return figure
